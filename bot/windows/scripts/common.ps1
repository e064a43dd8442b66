# What inspect.ps1 and apply.ps1 share; it is sent in front of them. For Windows PowerShell 5.1, without modules, and in
# the language of 4.0, which Windows Server 2012 R2 has (UNVERIFIED there).
# It reads files, asks Windows about services and processes, and opens a TLS connection to this machine itself.
param($p)

# ---- Small things
# A function that finds nothing says $null in so many words: one that gives nothing at all becomes {} in the JSON.

function Get-HostTime {
    [DateTime]::UtcNow
}

function Get-Seconds {
    # Monotonic, for time limits: a clock that is corrected in mid-visit must not lengthen or cut a wait.
    [Diagnostics.Stopwatch]::GetTimestamp() / [Diagnostics.Stopwatch]::Frequency
}

function Format-Time($time) {
    if (-not $time) { return $null }
    $time.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ss.fffZ', [Globalization.CultureInfo]::InvariantCulture)
}

function Get-Field($object, $name) {
    # Under strict mode a missing property is an exception.
    if (-not $object -or -not $object.PSObject.Properties[$name]) { return $null }
    $object.PSObject.Properties[$name].Value
}

function Get-SafeName($instance) {
    # An instance's name in the names of folders, tasks and mutexes. Instance names ignore case.
    $instance.ToLowerInvariant() -replace '[^a-z0-9.-]', '_'
}

function Get-Cause($record) {
    # The innermost message: PowerShell wraps what .NET methods throw.
    $exception = $record.Exception
    while ($exception.InnerException) { $exception = $exception.InnerException }
    $exception.Message
}

function Get-WorkFolder {
    # Copies of configurations, and a PFX while it is being imported. Only SYSTEM and Administrators may open it.
    [IO.Path]::Combine($env:ProgramData, 'octocert')
}

# ---- The configuration of an instance, read as text: the program would leave keys in our profile

function Read-Configuration($path) {
    # Tentacle rewrites the file in place, so a reader may meet half of it: look again before giving up.
    for ($attempt = 1; ; $attempt++) {
        try {
            $xml = New-Object System.Xml.XmlDocument
            $xml.PreserveWhitespace = $true
            $xml.XmlResolver = $null
            $xml.LoadXml([IO.File]::ReadAllText($path))
            return $xml
        } catch {
            if ($attempt -ge 3) { throw "the configuration $path cannot be read: $(Get-Cause $_)" }
            Start-Sleep -Milliseconds 200
        }
    }
}

function Get-Setting($xml, $key) {
    $node = $xml.SelectSingleNode("//set[@key='$key']")
    if (-not $node -or -not $node.InnerText.Trim()) { return $null }
    $node.InnerText.Trim()
}

function Get-Thumbprint($xml) {
    $text = Get-Setting $xml 'Tentacle.CertificateThumbprint'
    if ($text -notmatch '^[0-9A-Fa-f]{40}$') { return $null }
    $text.ToUpperInvariant()
}

# ---- What an earlier visit left

function Get-JournalPath($config) {
    "$config.octocert.json"
}

function Read-Journal($config) {
    # How far which run came with this instance; nothing where no run ever touched it.
    $path = Get-JournalPath $config
    if (-not [IO.File]::Exists($path)) { return $null }
    ConvertFrom-Json ([IO.File]::ReadAllText($path))
}

function Select-Journal($journal) {
    # The part of a journal that is reported.
    if (-not $journal) { return $null }
    [ordered]@{
        run = Get-Field $journal 'run'; phase = Get-Field $journal 'phase'
        old = Get-Field $journal 'old'; new = Get-Field $journal 'new'; at = Get-Field $journal 'at'
    }
}

# ---- Services and processes

function Get-ProcessFacts($id) {
    if ($id) { Get-CimInstance -ClassName Win32_Process -Filter "ProcessId=$id" }
}

function Get-ServiceFacts($name) {
    $quoted = $name -replace "([\\'])", '\$1'
    $service = Get-CimInstance -ClassName Win32_Service -Filter "Name='$quoted'"
    if (-not $service) {
        return [ordered]@{ state = 'Missing'; start_mode = $null; account = $null; process = $null; process_started = $null }
    }
    $process = Get-ProcessFacts $service.ProcessId
    $started = $null
    if ($process) { $started = Format-Time $process.CreationDate }
    $id = $null
    if ($service.ProcessId) { $id = [int]$service.ProcessId }
    [ordered]@{
        state = $service.State -replace ' ', ''   # 'Stop Pending' of WMI is 'StopPending' elsewhere
        start_mode = $service.StartMode; account = $service.StartName; process = $id; process_started = $started
    }
}

function Get-Children($id) {
    # A script or a deployment in progress. conhost.exe comes with every console program and means nothing.
    if (-not $id) { return }
    Get-CimInstance -ClassName Win32_Process -Filter "ParentProcessId=$id" |
        ForEach-Object { $_.Name } | Where-Object { $_ -ne 'conhost.exe' } | Sort-Object
}

# ---- Trust: the list in the file, and the one that the running process honours

function Get-Trusted($xml) {
    $text = Get-Setting $xml 'Tentacle.Communication.TrustedOctopusServers'
    if (-not $text) { return }
    $list = ConvertFrom-Json $text   # assigned first: 5.1 puts an array through the pipeline as one object
    foreach ($entry in $list) {
        [ordered]@{
            thumbprint = Get-Field $entry 'Thumbprint'; style = Get-Field $entry 'CommunicationStyle'
            address = Get-Field $entry 'Address'; squid = Get-Field $entry 'Squid'
            subscription = Get-Field $entry 'SubscriptionId'
        }
    }
}

function Read-End($path, $most) {
    # The end of a file that a running program keeps open, of so many bytes.
    $share = [IO.FileShare]'ReadWrite, Delete'
    $file = New-Object System.IO.FileStream($path, [IO.FileMode]::Open, [IO.FileAccess]::Read, $share)
    try {
        $null = $file.Seek([Math]::Max(0, $file.Length - $most), [IO.SeekOrigin]::Begin)
        (New-Object System.IO.StreamReader($file)).ReadToEnd()
    } finally {
        $file.Dispose()
    }
}

function Find-Logs($folder) {
    # Tentacle's log, and the two newest of those that were rolled away: a start may stand in one of them.
    $current = [IO.Path]::Combine($folder, 'OctopusTentacle.txt')
    [IO.Directory]::GetFiles($folder, 'OctopusTentacle.*.txt') | Where-Object { $_ -ne $current } |
        Sort-Object { [IO.File]::GetLastWriteTimeUtc($_) } | Select-Object -Last 2
    if ([IO.File]::Exists($current)) { $current }
}

function Get-Trusting($xml, $config, $facts) {
    # Whom the running process trusts: it says so once, at its start. Lines: local time, process, thread, level, message.
    $found = @{ thumbprints = $null; error = $null }
    try {
        if ($facts.state -ne 'Running' -or -not $facts.process_started) { throw 'the service does not run' }
        $started = [DateTime]::Parse($facts.process_started, [Globalization.CultureInfo]::InvariantCulture, [Globalization.DateTimeStyles]::RoundtripKind)
        $since = $started.ToLocalTime().ToString('yyyy-MM-dd HH:mm:ss.fff', [Globalization.CultureInfo]::InvariantCulture)
        $folder = [IO.Path]::Combine([IO.Path]::GetDirectoryName($config), "$(Get-Setting $xml 'Octopus.Home')", 'Logs')
        $text = @(Find-Logs $folder | ForEach-Object { Read-End $_ 2MB }) -join "`n"
        $said = '(?m)^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) +' + $facts.process + ' +\S+ +\S+ +' +
            '(?:Agent will trust Octopus Servers with the thumbprint: (\S+)|The agent is not configured to trust any)'
        # Process ids come again: what was said before this process started was another's.
        $lines = @([regex]::Matches($text, $said) | Where-Object { [string]::CompareOrdinal($_.Groups[1].Value, $since) -ge 0 })
        if (-not $lines.Count) { throw "the logs in $folder tell nothing of the start of process $($facts.process)" }
        $found.thumbprints = @($lines | ForEach-Object { $_.Groups[2].Value } | Where-Object { $_ })
    } catch {
        $found.error = Get-Cause $_
    }
    $found
}

# ---- What is served

function Get-LoopbackAddress($listenIp, $port) {
    if (-not $listenIp -or $listenIp -eq 'any' -or $listenIp -eq '0.0.0.0' -or $listenIp -eq '::') { '127.0.0.1' } else { $listenIp }
}

function Get-Served($port, $listenIp, $seconds) {
    # The certificate that the running service presents. No client certificate is needed, and nothing is trusted.
    $address = Get-LoopbackAddress $listenIp $port
    $served = [ordered]@{ address = "${address}:$port"; der = $null; error = $null }
    $client = $null
    $tls = $null
    try {
        $ip = [Net.IPAddress]::Parse($address)
        $client = New-Object System.Net.Sockets.TcpClient($ip.AddressFamily)
        $pending = $client.BeginConnect($ip, $port, $null, $null)
        if (-not $pending.AsyncWaitHandle.WaitOne([int]($seconds * 1000))) { throw "no answer within $seconds s" }
        $client.EndConnect($pending)
        $client.ReceiveTimeout = [int]($seconds * 1000)
        $client.SendTimeout = [int]($seconds * 1000)
        $accept = [Net.Security.RemoteCertificateValidationCallback] { $true }
        $tls = New-Object System.Net.Security.SslStream($client.GetStream(), $false, $accept)
        # Named, because old .NET would offer nothing above TLS 1.0 here: Tls12, Tls11, Tls.
        $tls.AuthenticateAsClient($address, $null, [Security.Authentication.SslProtocols](3072 -bor 768 -bor 192), $false)
        $served.der = [Convert]::ToBase64String($tls.RemoteCertificate.GetRawCertData())
    } catch {
        $served.error = Get-Cause $_
    } finally {
        if ($tls) { $tls.Dispose() }
        if ($client) { $client.Close() }
    }
    $served
}

# ---- Programs

function Format-Argument($text) {
    # By the rules of CommandLineToArgvW; .NET Framework has no ArgumentList.
    '"' + ($text -replace '(\\*)"', '$1$1\"' -replace '(\\+)$', '$1$1') + '"'
}

function Invoke-Program($exe, [string[]]$arguments, $seconds) {
    # Not `& $exe 2>&1`: under ErrorActionPreference Stop, 5.1 turns the first line on stderr into an exception.
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = $exe
    $start.Arguments = (@($arguments | ForEach-Object { Format-Argument $_ }) -join ' ')
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.RedirectStandardInput = $true   # or the program would read ours
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardError = $true
    $process = [System.Diagnostics.Process]::Start($start)
    try {
        $process.StandardInput.Close()
        $out = $process.StandardOutput.ReadToEndAsync()
        $err = $process.StandardError.ReadToEndAsync()
        if (-not $process.WaitForExit([int]($seconds * 1000))) {
            $process.Kill()
            throw "$exe $($arguments[0]) did not end within $seconds s"
        }
        $process.WaitForExit()   # the streams are complete only after this one
        @{ code = $process.ExitCode; out = $out.Result; err = $err.Result }
    } finally {
        $process.Dispose()
    }
}

function Get-Complaint($result) {
    # The decisive line of what Octopus's programs print when they fail: the first that is no ruler.
    $lines = @($result.err -split '\r?\n' | Where-Object { $_.Trim() -and $_ -notmatch '^[=-]+$' })
    if ($lines.Count) { $lines[0].Trim() } else { 'it said nothing' }
}

function Invoke-Schtasks([string[]]$arguments) {
    Invoke-Program ([IO.Path]::Combine($env:SystemRoot, 'System32', 'schtasks.exe')) $arguments 30
}

# ---- The Octopus Server

function Get-Stored($exe, $instance, $seconds) {
    # Its certificate lies in the database, which only its program can read: not from every log-on. UNVERIFIED: that
    # --format=json is answered as Tentacle answers it; the bare thumbprint of older versions is understood, too.
    $found = @{ thumbprint = $null; error = $null }
    try {
        $result = Invoke-Program $exe @('show-thumbprint', "--instance=$instance", '--format=json') $seconds
        $said = [regex]::Match($result.out, '(?im)"Thumbprint"\s*:\s*"([0-9a-f]{40})"|^\s*([0-9a-f]{40})\s*$')
        if ($said.Success) {
            $found.thumbprint = ($said.Groups[1].Value + $said.Groups[2].Value).ToUpperInvariant()
        } else {
            $found.error = "show-thumbprint ended with exit code $($result.code): $(Get-Complaint $result)"
        }
    } catch {
        $found.error = Get-Cause $_
    }
    $found
}
