# octocert inspect: tells what this host knows of its Tentacles, and of its Octopus Server. It changes nothing.
#
# Parameters: loopback (whether to look at the served certificates), loopback_seconds (time limit of one look), server
# (whether to look at the Octopus Server: its program is asked), program_seconds (time limit of that program).
# One line: facts. It holds no secret: of a configuration only thumbprints, trust, port and folders are read.
# common.ps1 stands in front of this text.

$WatchdogTask = 'Octopus Watchdog Tentacle'   # the name that `Tentacle.exe watchdog --create` gives it
$DefaultPort = 10933
$DefaultServerPort = 10943

function Test-Elevated {
    $me = New-Object System.Security.Principal.WindowsPrincipal([System.Security.Principal.WindowsIdentity]::GetCurrent())
    $me.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator)
}

function Find-Program($key, $folderName, $file) {
    # The installer notes its folder in the registry; a copy by hand stands in the usual place.
    $installed = Get-ItemProperty -LiteralPath "HKLM:\Software\Octopus\$key" -ErrorAction SilentlyContinue
    $usual = [IO.Path]::Combine($env:ProgramFiles, 'Octopus Deploy', $folderName)
    foreach ($folder in @((Get-Field $installed 'InstallLocation'), $usual)) {
        if (-not $folder) { continue }
        $exe = [IO.Path]::Combine($folder, $file)
        if ([IO.File]::Exists($exe)) { return $exe }
    }
    return $null
}

function Get-ProgramVersion($exe) {
    if (-not $exe) { return $null }
    $version = [Diagnostics.FileVersionInfo]::GetVersionInfo($exe).ProductVersion
    if (-not $version) { $version = (Invoke-Program $exe @('version') 30).out }
    $version.Trim()
}

function Test-Watchdog {
    # By exit code: the text is in the language of the host.
    (Invoke-Schtasks @('/Query', '/TN', $WatchdogTask)).code -eq 0
}

function Find-Backup($config) {
    # The newest run whose copy of this configuration is still kept.
    $newest = $null
    $folder = Get-WorkFolder
    if (-not [IO.Directory]::Exists($folder)) { return $null }
    foreach ($kept in [IO.Directory]::GetDirectories($folder)) {
        $file = [IO.Path]::Combine($kept, 'about.json')
        if (-not [IO.File]::Exists($file)) { continue }
        $about = ConvertFrom-Json ([IO.File]::ReadAllText($file))
        if ($about.config -eq $config -and (-not $newest -or [string]::CompareOrdinal($about.at, $newest.at) -gt 0)) { $newest = $about }
    }
    Get-Field $newest 'run'
}

function Get-ServiceName($instance) {
    if ($instance -eq 'Tentacle') { 'OctopusDeploy Tentacle' } else { "OctopusDeploy Tentacle: $instance" }
}

function Get-Instance($index) {
    $facts = [ordered]@{
        name = [IO.Path]::GetFileNameWithoutExtension($index); config = $null; service = $null; error = $null
        configured = $null; trusted = @(); no_listen = $false; port = $DefaultPort; listen_ip = $null; home = $null
        state = 'Missing'; start_mode = $null; account = $null; process = $null; process_started = $null
        children = @(); served = $null; journal = $null; backup = $null; trusting = $null
    }
    try {
        $entry = ConvertFrom-Json ([IO.File]::ReadAllText($index))
        $facts.name = $entry.Name
        $facts.config = $entry.ConfigurationFilePath
        $facts.service = Get-ServiceName $entry.Name
        $service = Get-ServiceFacts $facts.service
        foreach ($key in @($service.Keys)) { $facts[$key] = $service[$key] }
        $facts.children = @(Get-Children $facts.process)

        $xml = Read-Configuration $facts.config
        $facts.configured = Get-Thumbprint $xml
        $facts.trusted = @(Get-Trusted $xml)
        $facts.no_listen = (Get-Setting $xml 'Tentacle.Services.NoListen') -eq 'true'
        $port = Get-Setting $xml 'Tentacle.Services.PortNumber'
        if ($port) { $facts.port = [int]$port }
        $facts.listen_ip = Get-Setting $xml 'Tentacle.Services.ListenIP'
        $facts.home = Get-Setting $xml 'Octopus.Home'
        $facts.journal = Select-Journal (Read-Journal $facts.config)
        $facts.backup = Find-Backup $facts.config
        $facts.trusting = (Get-Trusting $xml $facts.config $facts).thumbprints
        if ($p.loopback -and -not $facts.no_listen -and $facts.state -eq 'Running') {
            $facts.served = Get-Served $facts.port $facts.listen_ip $p.loopback_seconds
        }
    } catch {
        # One broken instance must not hide the others.
        $facts.error = Get-Cause $_
    }
    $facts
}

function Get-ServerServiceName($instance) {
    if ($instance -eq 'OctopusServer') { 'OctopusDeploy' } else { "OctopusDeploy: $instance" }
}

function Get-ServerInstance($index, $exe, $version) {
    # A node of the Server. UNVERIFIED: the names of its index folder and of its settings, which are like Tentacle's.
    $facts = [ordered]@{
        name = [IO.Path]::GetFileNameWithoutExtension($index); config = $null; service = $null; error = $null
        exe = $exe; version = $version; port = $DefaultServerPort
        state = 'Missing'; start_mode = $null; account = $null; process = $null; process_started = $null
        stored = $null; stored_error = $null; served = $null; journal = $null; backup = $null
    }
    try {
        $entry = ConvertFrom-Json ([IO.File]::ReadAllText($index))
        $facts.name = $entry.Name
        $facts.config = $entry.ConfigurationFilePath
        $facts.service = Get-ServerServiceName $entry.Name
        $service = Get-ServiceFacts $facts.service
        foreach ($key in @($service.Keys)) { $facts[$key] = $service[$key] }
        $port = Get-Setting (Read-Configuration $facts.config) 'Octopus.Communications.ServicesPort'
        if ($port) { $facts.port = [int]$port }
        $facts.journal = Select-Journal (Read-Journal $facts.config)
        $facts.backup = Find-Backup $facts.config
        if ($exe) {
            $stored = Get-Stored $exe $facts.name $p.program_seconds
            $facts.stored = $stored.thumbprint
            $facts.stored_error = $stored.error
        }
        if ($p.loopback -and $facts.state -eq 'Running') { $facts.served = Get-Served $facts.port $null $p.loopback_seconds }
    } catch {
        $facts.error = Get-Cause $_
    }
    $facts
}

function Get-Indexes($product) {
    # The files by which an installed product knows its instances.
    $folder = [IO.Path]::Combine($env:ProgramData, 'Octopus', $product, 'Instances')
    if ([IO.Directory]::Exists($folder)) { [IO.Directory]::GetFiles($folder, '*.config') | Sort-Object }
}

function Get-Servers {
    if (-not $p.server) { return }
    $exe = Find-Program 'OctopusServer' 'Octopus' 'Octopus.Server.exe'
    $version = $null
    try { $version = Get-ProgramVersion $exe } catch { $version = $null }   # the rest is worth knowing all the same
    Get-Indexes 'OctopusServer' | ForEach-Object { Get-ServerInstance $_ $exe $version }
}

$exe = Find-Program 'Tentacle' 'Tentacle' 'Tentacle.exe'
Send-Line 'facts' ([ordered]@{
    computer = $env:COMPUTERNAME
    os = (Get-CimInstance -ClassName Win32_OperatingSystem).Caption
    powershell = "$($PSVersionTable.PSVersion)"
    language = "$($ExecutionContext.SessionState.LanguageMode)"
    clock = Format-Time (Get-HostTime)
    elevated = Test-Elevated
    exe = $exe
    version = Get-ProgramVersion $exe
    watchdog = Test-Watchdog
    instances = @(Get-Indexes 'Tentacle' | ForEach-Object { Get-Instance $_ })
    servers = @(Get-Servers)
})
