# octocert apply: carries out a list of actions on one instance of a Tentacle, or of the Octopus Server.
#
# What it promises:
#  * A service that it stopped is started again, whatever fails (finally). If this process itself is killed, a
#    scheduled task that was registered before the stop starts the service: the backstop.
#  * Every action may be repeated. A journal beside the configuration tells what is done; nothing is made twice.
#  * One visit to an instance at a time (a named mutex).
#  * A private key that it is given lies on the disk for as long as the import takes, in a folder that only SYSTEM and
#    Administrators may open; what it keeps to put back lies in such a folder, too. No password and no key is on any
#    command line.
#  * No process is killed but a program of our own that hangs, and no list of trusted servers is ever put back.
#
# Parameters: run, kind (tentacle or server), instance, exe, config, service, expected (thumbprint that the plan was made
# for), new (thumbprint or null), pfx (base64 or null), actions, limits {program, stop, start, visit, loopback} in seconds,
# port, listen_ip, restore_run (whose copy to put back, or null: this run's), trusted (texts of the list of trusted
# servers that the plan was made for, or null: do not look), trust_old (exact text), trust_new, server_addresses
# (host:port).
# Lines: begin, end, program, stopping, stopped, started, waiting, refused (nothing was changed), applied.
# common.ps1, trust.ps1 and server.ps1 stand in front of this text.

$visit = @{
    mutex = $null; journal = $null
    stopped = $null            # the process that we asked to stop, until another one was seen to run
    backstop = $false          # the backstop is registered
    process_at_write = $null   # the process that ran when the configuration was written: it knows nothing of it
    pfx_folder = $null; served = $null; problem = $null
    printed = $null            # old and new thumbprint, as the Server's program printed them
    trusting = @{ thumbprints = $null; error = $null }   # what the running process said that it trusts
}

function Deny($reason, $message) {
    # The reason is a word for the bot, the message a sentence for people. It is a refusal only while nothing was changed.
    if (-not $visit.journal -or @('begun', 'copied', 'exported', 'generated') -contains $visit.journal.phase) {
        Send-Line 'refused' ([ordered]@{ reason = $reason; message = $message })
    }
    throw $message
}

# ---- Files

function Write-Whole($path, [byte[]]$bytes) {
    # Readers see the old file or the new one. Replace keeps the access rights of the old one.
    $fresh = "$path.new"
    $file = New-Object System.IO.FileStream($fresh, [IO.FileMode]::Create, [IO.FileAccess]::Write)
    try {
        $file.Write($bytes, 0, $bytes.Length)
        $file.Flush($true)
    } finally {
        $file.Dispose()
    }
    if ([IO.File]::Exists($path)) { [IO.File]::Replace($fresh, $path, [NullString]::Value) } else { [IO.File]::Move($fresh, $path) }
}

function Write-Json($path, $value) {
    Write-Whole $path ([Text.Encoding]::UTF8.GetBytes((ConvertTo-Json -Depth 5 -InputObject $value)))
}

function Get-Hash($path) {
    $sha = [Security.Cryptography.SHA256]::Create()
    try { -join ($sha.ComputeHash([IO.File]::ReadAllBytes($path)) | ForEach-Object { $_.ToString('x2') }) } finally { $sha.Dispose() }
}

function New-ProtectedFolder($path) {
    # Created with its protection on: there is no moment in which others may open it.
    $security = New-Object System.Security.AccessControl.DirectorySecurity
    $security.SetSecurityDescriptorSddlForm('D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)')
    $null = [IO.Directory]::CreateDirectory($path, $security)
}

function Test-FolderProtected($path) {
    # SYSTEM (S-1-5-18) and Administrators (S-1-5-32-544), nobody else, nothing inherited, and no link to elsewhere.
    # An owner may change the rights at any time, so that must be one of the two, or this account.
    if ([IO.File]::GetAttributes($path) -band [IO.FileAttributes]::ReparsePoint) { return $false }
    $kind = [System.Security.Principal.SecurityIdentifier]
    $we = @('S-1-5-18', 'S-1-5-32-544')
    $security = [IO.Directory]::GetAccessControl($path)
    $others = @($security.GetAccessRules($true, $true, $kind) | Where-Object { $we -notcontains $_.IdentityReference.Value })
    $owners = $we + [System.Security.Principal.WindowsIdentity]::GetCurrent().User.Value
    $security.AreAccessRulesProtected -and $others.Count -eq 0 -and $owners -contains $security.GetOwner($kind).Value
}

function Confirm-Folder($path) {
    # ProgramData lets everybody make folders: one that is there already may be a trap, and is used only if it is safe.
    if (-not [IO.Directory]::Exists($path)) { New-ProtectedFolder $path }
    if (-not (Test-FolderProtected $path)) {
        Deny 'protection' "the folder $path cannot be kept to SYSTEM and Administrators: mend or remove it"
    }
}

function Remove-PfxFolder($path) {
    foreach ($file in [IO.Directory]::GetFiles($path)) {
        [IO.File]::WriteAllBytes($file, (New-Object byte[] ([IO.FileInfo]$file).Length))
        [IO.File]::Delete($file)
    }
    [IO.Directory]::Delete($path, $true)
}

function Get-Key {
    # The instance in the names of folders, tasks and mutexes. No Tentacle's has a plus sign in it.
    if ($p.kind -eq 'server') { "server+$(Get-SafeName $p.instance)" } else { Get-SafeName $p.instance }
}

function Get-PfxPrefix {
    "pfx-$(Get-Key)--"
}

function Clear-Leftovers {
    # We hold the mutex, so whoever made these is dead.
    foreach ($path in @("$($p.config).new", "$(Get-JournalPath $p.config).new")) { [IO.File]::Delete($path) }
    $root = Get-WorkFolder
    if (-not [IO.Directory]::Exists($root)) { return }
    foreach ($path in [IO.Directory]::GetDirectories($root, "$(Get-PfxPrefix)*")) { Remove-PfxFolder $path }
}

# ---- The journal: how far this run came

function Write-Journal($phase) {
    $visit.journal.phase = $phase
    $visit.journal.at = Format-Time (Get-HostTime)
    Write-Json (Get-JournalPath $p.config) $visit.journal
}

function Open-Journal {
    $found = Read-Journal $p.config
    $journal = [ordered]@{ run = $p.run; phase = 'begun'; old = $p.expected; new = $p.new; at = $null
        hash = $null; process = $null; process_started = $null; backstop = $false
        write_process = $null; write_process_started = $null }
    if ((Get-Field $found 'run') -eq $p.run) {
        foreach ($key in @($journal.Keys)) { $journal[$key] = Get-Field $found $key }
        $visit.backstop = [bool]$journal.backstop
    } elseif ($p.restore_run -and (Get-Field $found 'run') -eq $p.restore_run) {
        $journal.hash = Get-Field $found 'hash'   # the file as that run left it
    }
    $visit.journal = $journal
}

function Get-Configured {
    Get-Thumbprint (Read-Configuration $p.config)
}

function Confirm-Expected {
    # The last look before anything happens: the plan was approved for this certificate and no other.
    $journal = $visit.journal
    if ($p.kind -eq 'server') {
        $current = Get-Stored $p.exe $p.instance $p.limits.program
        if ($current.error) {
            # What this run stopped must start again, whatever became of the database.
            if ($journal.phase -ne 'begun') { return }
            Deny 'stored' "the certificate of the Octopus Server cannot be read: $($current.error)"
        }
        $current = $current.thumbprint
        if (@($p.actions) -contains 'revert' -and $current -eq $p.new) { return }   # it is back already
    } else {
        $current = Get-Configured
    }
    if ($current -eq $p.expected) { return }
    if ($journal.phase -ne 'begun') {
        # It is not what was planned for, but it may be our own work, of a visit whose answer was lost.
        if ($journal.new -and $current -eq $journal.new) { return }
        $writing = @('importing', 'making', 'restoring', 'adopting', 'reverting')
        if ($current -eq $journal.old -or $writing -contains $journal.phase) { return }
    }
    Deny 'stale' "the certificate configured for $($p.instance) is $current, not $($p.expected) as planned"
}

function Confirm-Planned {
    # What else decided the plan, as long as nothing was done: then all of it is done, or nothing.
    if ($null -eq $p.trusted -or $visit.journal.phase -ne 'begun') { return }
    $facts = Get-ServiceFacts $p.service
    if ($facts.state -ne 'Running') { Deny 'stale' "the service $($p.service) is $($facts.state), not Running as planned" }
    $planned = Format-Texts @($p.trusted)
    $current = Format-Texts @(Get-TrustList | ForEach-Object { $_.thumbprint })
    if ($current -cne $planned) { Deny 'stale' "$($p.instance) trusts $current, not $planned as planned" }
    $children = @(Get-Children $facts.process)
    if ($children.Count) { Deny 'at-work' "the program $($children[0])" }
}

function Format-Texts([string[]]$texts) {
    # In an order that no language of the host decides.
    if (-not $texts.Count) { return 'nobody' }
    [Array]::Sort($texts, [StringComparer]::Ordinal)
    $texts -join ', '
}

function Confirm-NoOther {
    # The bot makes a new key after an interruption. If the interrupted visit went on by itself, what it did stays.
    $new = $visit.journal.new
    if ($new -and (Get-Configured) -eq $new -and $new -ne $visit.journal.old -and $new -ne $p.new) {
        throw "this run has put $new there already, so $($p.new) is not imported"
    }
}

# ---- One visit at a time

function New-NamedMutex($name) {
    New-Object System.Threading.Mutex($false, "Global\$name")
}

function Wait-Mutex($milliseconds) {
    try {
        $visit.mutex.WaitOne([int]$milliseconds)
    } catch [System.Threading.AbandonedMutexException] {
        $true   # its owner died, and it is ours now; the journal tells what that visit had done
    }
}

function Enter-Mutex {
    $visit.mutex = New-NamedMutex "octocert-$(Get-Key)"
    if (Wait-Mutex 0) { return }
    # Another visit of the same run is one whose connection was lost: wait for it, then go on from its journal.
    Send-Line 'waiting' $p.instance
    $begin = Get-Seconds
    while ((Get-Seconds) - $begin -lt $p.limits.visit) {
        if (Wait-Mutex 250) { return }
        # A visit writes its journal within its first moments; before that, the journal may be an older run's.
        if ((Get-Seconds) - $begin -gt 2 -and (Get-Field (Read-Journal $p.config) 'run') -ne $p.run) { break }
    }
    $visit.mutex.Dispose()
    $visit.mutex = $null
    Deny 'busy' "another visit is working on $($p.instance)"
}

function Exit-Mutex {
    if ($visit.mutex) {
        $visit.mutex.ReleaseMutex()
        $visit.mutex.Dispose()
        $visit.mutex = $null
    }
}

# ---- The backstop: a task that starts the service if we no longer can

function Get-BackstopName {
    "octocert-backstop-$(Get-Key)"
}

function Get-BackstopXml {
    # From the moment at which we should be done, each minute for an hour: a service that is still stopping then
    # may stop later. `sc start` of a running service does nothing. UNVERIFIED on Windows: made after the schema.
    $first = (Get-HostTime).AddSeconds($p.limits.stop + $p.limits.program + $p.limits.start)
    $end = $first.AddMinutes(61)
    $escape = { param($text) [Security.SecurityElement]::Escape($text) }
    $boundary = { param($time) (Format-Time $time) -replace '\.\d+Z$', 'Z' }   # in whole seconds, as the schema shows it
    $sc = & $escape ([IO.Path]::Combine($env:SystemRoot, 'System32', 'sc.exe'))
    $service = & $escape "start `"$($p.service)`""
    @"
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>octocert: starts a service again if the visit that stopped it died. Removes itself.</Description>
  </RegistrationInfo>
  <Triggers>
    <TimeTrigger>
      <Repetition><Interval>PT1M</Interval><Duration>PT1H</Duration></Repetition>
      <StartBoundary>$(& $boundary $first)</StartBoundary>
      <EndBoundary>$(& $boundary $end)</EndBoundary>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="System"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT5M</ExecutionTimeLimit>
    <DeleteExpiredTaskAfter>PT0S</DeleteExpiredTaskAfter>
  </Settings>
  <Actions Context="System">
    <Exec><Command>$sc</Command><Arguments>$service</Arguments></Exec>
  </Actions>
</Task>
"@
}

function Register-Backstop {
    # Its XML is read by SYSTEM, so it lies where nobody else could change it.
    Confirm-Folder (Get-WorkFolder)
    $file = [IO.Path]::Combine((Get-WorkFolder), "$(Get-BackstopName).xml")
    [IO.File]::WriteAllText($file, (Get-BackstopXml), [Text.Encoding]::Unicode)
    try {
        $made = Invoke-Schtasks @('/Create', '/TN', (Get-BackstopName), '/XML', $file, '/F')
    } finally {
        [IO.File]::Delete($file)
    }
    if ((Invoke-Schtasks @('/Query', '/TN', (Get-BackstopName))).code -ne 0) {
        Deny 'backstop' "the scheduled task that would start $($p.service) again cannot be registered: $($made.err.Trim())"
    }
    $visit.backstop = $true
    $visit.journal.backstop = $true
}

function Remove-Backstop {
    # Only once the service was seen to run, or was never asked to stop.
    if (-not $visit.backstop) { return }
    $null = Invoke-Schtasks @('/Delete', '/TN', (Get-BackstopName), '/F')
    $visit.backstop = $false
    $visit.journal.backstop = $false
}

# ---- The service

function Test-NewProcess($facts, $before) {
    # Running, and by another process than before: what runs now has read the configuration as it is.
    $same = $facts.process -eq $before.process -and $facts.process_started -eq $before.process_started
    $facts.state -eq 'Running' -and $facts.process -and -not $same
}

function Stop-OctopusService($before) {
    if ($before.state -eq 'Missing') { throw "there is no service $($p.service)" }
    Register-Backstop
    $visit.journal.process = $before.process
    $visit.journal.process_started = $before.process_started
    Write-Journal 'stopping'
    Send-Line 'stopping' $p.service
    $visit.stopped = $before   # from here on it is started again, whatever happens
    $asked = $false
    $begin = Get-Seconds
    while ($true) {
        $now = Get-ServiceFacts $p.service
        # A watchdog may have started it already: then it has stopped, too.
        if ($now.state -eq 'Stopped' -or (Test-NewProcess $now $before)) { break }
        if ($now.state -eq 'Running' -and -not $asked) {   # one that still starts or stops takes no orders
            $asked = $true
            (Get-Service -Name $p.service).Stop()
        }
        if ((Get-Seconds) - $begin -gt $p.limits.stop) {
            throw ("$($p.service) did not stop within $($p.limits.stop) s: process $($now.process) of $($now.account) is " +
                "still there ($($now.state)). Nothing was killed; a scheduled task starts the service as soon as it has stopped")
        }
        Start-Sleep -Milliseconds 250
    }
    Write-Journal 'stopped'
    Send-Line 'stopped' $p.service
}

function Save-Started($facts) {
    $visit.journal.process = $facts.process
    $visit.journal.process_started = $facts.process_started
    Remove-Backstop
    Write-Journal 'started'
}

function Start-OctopusService($before) {
    # Returns once the service runs by another process than before.
    $begin = Get-Seconds
    $problem = ''
    while ($true) {
        $now = Get-ServiceFacts $p.service
        if (Test-NewProcess $now $before) { break }
        if ((Get-Seconds) - $begin -gt $p.limits.start) {
            throw "$($p.service) does not run by a new process after $($p.limits.start) s ($($now.state)). $problem".Trim()
        }
        if ($now.state -eq 'Stopped') {
            # A watchdog may be faster, or the program may end at once: the next look tells.
            try { (Get-Service -Name $p.service).Start() } catch { $problem = Get-Cause $_ }
        }
        Start-Sleep -Milliseconds 250
    }
    # It runs: only now anything else, for what follows may fail.
    $visit.stopped = $null
    Save-Started $now
    Send-Line 'started' $p.service
}

function Test-Restarted {
    # Whether a visit of this run did it already: the process that it started, or its backstop, still runs.
    $before = @{ process = $visit.journal.process; process_started = $visit.journal.process_started }
    $now = Get-ServiceFacts $p.service
    if ($visit.journal.phase -eq 'started') {
        $now.state -eq 'Running' -and $now.process -eq $before.process -and $now.process_started -eq $before.process_started
    } elseif (@('stopping', 'stopped') -contains $visit.journal.phase) {
        Test-NewProcess $now $before
    } else {
        $false
    }
}

# ---- The actions. Each returns what its `end` line tells, and does nothing when its work is done already

function Get-BackupFolder($run) {
    [IO.Path]::Combine((Get-WorkFolder), "$run-$(Get-Key)")
}

function Invoke-Backup {
    $folder = Get-BackupFolder $p.run
    $about = [IO.Path]::Combine($folder, 'about.json')   # written last: where it is, the copy is whole
    if ([IO.File]::Exists($about)) { return @{ already = $true } }
    $configured = Get-Configured
    if ($configured -ne $p.expected) { throw "the copy of the configuration of run $($p.run) is gone" }
    Confirm-Folder (Get-WorkFolder)
    Confirm-Folder $folder
    [IO.File]::Copy($p.config, [IO.Path]::Combine($folder, 'Tentacle.config'), $true)
    Write-Json $about ([ordered]@{
        run = $p.run; instance = $p.instance; config = $p.config; thumbprint = $configured; at = Format-Time (Get-HostTime)
    })
    Write-Journal 'copied'
    @{ already = $false }
}

function Hide-Secrets($text) {
    # What a program prints is kept by the bot: no key may be in it, should one ever print one.
    $text = [regex]::Replace($text, '(?s)-----BEGIN.*?(-----END[^\r\n]*|$)', '[removed]')
    $text = [regex]::Replace($text, '[A-Za-z0-9+/=]{100,}', '[removed]')
    if ($text.Length -gt 4000) { $text = '...' + $text.Substring($text.Length - 4000) }
    $text
}

function Invoke-OctopusProgram([string[]]$arguments) {
    $result = Invoke-Program $p.exe $arguments $p.limits.program
    $out = Hide-Secrets $result.out
    $err = Hide-Secrets $result.err
    Send-Line 'program' ([ordered]@{ code = $result.code; out = $out; err = $err })
    @{ code = $result.code; out = $out; err = $err }
}

function Save-Written($phase, $new) {
    # After a write: what the file is now, and which process still runs with what it was before.
    $facts = Get-ServiceFacts $p.service
    $visit.process_at_write = $facts.process
    $visit.journal.write_process = $facts.process
    $visit.journal.write_process_started = $facts.process_started
    $visit.journal.hash = Get-Hash $p.config
    $visit.journal.new = $new
    Write-Journal $phase
}

function Read-Pfx([byte[]]$bytes) {
    # What Windows itself reads in it, before a program is bothered.
    $found = @{ thumbprint = $null; error = $null }
    $flags = [Security.Cryptography.X509Certificates.X509KeyStorageFlags]::MachineKeySet
    $certificate = $null
    try {
        $certificate = New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList @($bytes, '', $flags)
        if ($certificate.HasPrivateKey) { $found.thumbprint = $certificate.Thumbprint }
        else { $found.error = 'the PFX holds no private key that this host can read' }
    } catch {
        $found.error = "this host cannot read the PFX: $(Get-Cause $_)"
    } finally {
        # Reading made a key container of the machine; Reset removes it.
        if ($certificate) { $certificate.Reset() }
    }
    $found
}

function Confirm-Pfx([byte[]]$bytes) {
    $found = Read-Pfx $bytes
    if ($found.error) { Deny 'pfx' $found.error }
    if ($found.thumbprint -ne $p.new) { Deny 'pfx' "the PFX holds $($found.thumbprint), not $($p.new) as planned" }
}

function Save-Pfx([byte[]]$bytes) {
    # Puts it where nobody else can read it, for as long as an import takes.
    Confirm-Folder (Get-WorkFolder)
    $folder = [IO.Path]::Combine((Get-WorkFolder), "$(Get-PfxPrefix)$([Guid]::NewGuid().ToString('n'))")
    Confirm-Folder $folder
    $visit.pfx_folder = $folder
    $file = [IO.Path]::Combine($folder, 'certificate.pfx')
    [IO.File]::WriteAllBytes($file, $bytes)
    $file
}

function Invoke-Import {
    if ((Get-Configured) -eq $p.new -and $p.new -ne $visit.journal.old) { return @{ already = $true } }
    Confirm-NoOther
    $bytes = [Convert]::FromBase64String($p.pfx)
    Confirm-Pfx $bytes
    $file = Save-Pfx $bytes
    $visit.journal.new = $p.new
    Write-Journal 'importing'
    $result = Invoke-OctopusProgram @('import-certificate', "--instance=$($p.instance)", "--from-file=$file")
    Clear-Pfx
    # The exit code is no evidence, the file is.
    $configured = Get-Configured
    if ($configured -ne $p.new) {
        throw "import-certificate ended with exit code $($result.code), and $configured is configured: $(Get-Complaint $result)"
    }
    Save-Written 'imported' $configured
    @{ already = $false }
}

function Invoke-Make {
    $configured = Get-Configured
    $ours = $configured -and $configured -ne $visit.journal.old
    if ($ours -and $configured -eq $visit.journal.new) { return @{ already = $true } }
    if ($ours -and $visit.journal.phase -eq 'making') {
        # A visit of this run died while, or right after, the certificate was made: it is read back.
        Save-Written 'made' $configured
        return @{ already = $true }
    }
    Write-Journal 'making'
    $result = Invoke-OctopusProgram @('new-certificate', "--instance=$($p.instance)")
    $made = Get-Configured
    if (-not $made -or $made -eq $configured) {
        throw "new-certificate ended with exit code $($result.code), and the thumbprint did not change: $(Get-Complaint $result)"
    }
    Save-Written 'made' $made
    @{ already = $false }
}

function Invoke-Stop {
    if (Test-Restarted) { return @{ already = $true } }
    $before = Get-ServiceFacts $p.service
    if ($before.state -eq 'Stopped') { return @{ already = $true } }
    Stop-OctopusService $before
    @{ already = $false }
}

function Invoke-Start {
    $now = Get-ServiceFacts $p.service
    $never = @{ process = $null; process_started = $null }
    if ($visit.process_at_write -and $now.process -eq $visit.process_at_write) {
        # A watchdog started it before the certificate was replaced: this process, running or still starting, has the
        # old one.
        Stop-OctopusService $now
        Start-OctopusService $now
    } else {
        Start-OctopusService $never
    }
    @{ already = $false }
}

function Invoke-Restart {
    $before = Get-ServiceFacts $p.service
    if (Test-Restarted) {
        if ($visit.journal.phase -ne 'started') { Save-Started $before }   # its backstop did, or a watchdog
        return @{ already = $true }
    }
    if ($before.state -ne 'Stopped') { Stop-OctopusService $before }
    Start-OctopusService $before
    @{ already = $false }
}

function Invoke-Served {
    # A service that has just started needs a moment until it listens.
    if (-not $p.port) { return @{ already = $true } }
    $begin = Get-Seconds
    $look = [Math]::Min($p.limits.loopback, 10)   # one that hangs is not to cost all of the time
    while ($true) {
        $visit.served = Get-Served $p.port $p.listen_ip $look
        if ($visit.served.der -or (Get-Seconds) - $begin -gt $p.limits.loopback) { break }
        Start-Sleep -Milliseconds 500
    }
    @{ already = $false }
}

function Set-Setting($xml, $key, $value) {
    $node = $xml.SelectSingleNode("//set[@key='$key']")
    if (-not $node) { throw "$($p.config) has no $key" }
    $node.InnerText = $value
}

function Invoke-Restore {
    $from = $p.restore_run
    if (-not $from) { $from = $p.run }
    $copy = [IO.Path]::Combine((Get-BackupFolder $from), 'Tentacle.config')
    if (-not [IO.File]::Exists($copy)) { throw "no copy of the configuration of run $from is kept on this host" }
    $kept = Read-Configuration $copy
    $current = Read-Configuration $p.config
    $wanted = Get-Thumbprint $kept
    $promised = $p.new
    if ($from -eq $p.run) { $promised = $visit.journal.old }
    if (-not $wanted -or ($promised -and $wanted -ne $promised)) { throw "the copy of run $from holds $wanted, not $promised" }
    # Certificate and thumbprint are two writes of Tentacle's: an import that died may have left only the first.
    $keys = @('Tentacle.Certificate', 'Tentacle.CertificateThumbprint')
    $differs = @($keys | Where-Object { (Get-Setting $kept $_) -cne (Get-Setting $current $_) })
    if (-not $differs.Count) { return @{ already = $true } }

    $trust = 'Tentacle.Communication.TrustedOctopusServers'
    $untouched = (Get-Hash $p.config) -eq $visit.journal.hash -and (Get-Setting $kept $trust) -ceq (Get-Setting $current $trust)
    Write-Journal 'restoring'
    if ($untouched) {
        Write-Whole $p.config ([IO.File]::ReadAllBytes($copy))
    } else {
        # Somebody changed the file after us: only what we changed goes back. Trust above all stays as it is.
        foreach ($key in $keys) { Set-Setting $current $key (Get-Setting $kept $key) }
        $utf8 = New-Object System.Text.UTF8Encoding($true)
        Write-Whole $p.config ([byte[]]($utf8.GetPreamble() + $utf8.GetBytes($current.OuterXml)))
    }
    $configured = Get-Configured
    if ($configured -ne $wanted) { throw "after the restore $configured is configured, not $wanted" }
    $new = $visit.journal.new
    if ($from -ne $p.run) { $new = $wanted }
    Save-Written 'restored' $new
    @{ already = $false; whole = $untouched }
}

function Invoke-Sweep {
    # The copy holds the old private key: it goes once nobody can want it back.
    $folder = Get-BackupFolder $p.run
    $journal = Get-JournalPath $p.config
    $found = [IO.Directory]::Exists($folder)
    if ($found) { Remove-PfxFolder $folder }
    if ((Get-Field (Read-Journal $p.config) 'run') -eq $p.run) {
        [IO.File]::Delete($journal)
        $found = $true
    }
    @{ already = -not $found }
}

# What can be done to one kind of instance and not to the other.
$TentacleActions = @('backup', 'import', 'make', 'restore', 'trust', 'retrust', 'untrust', 'trusting')
$ServerActions = @('export', 'generate', 'adopt', 'revert')

function Invoke-Action($action) {
    $others = $ServerActions
    if ($p.kind -eq 'server') { $others = $TentacleActions }
    if ($others -contains $action) { throw "$action is no action for a $($p.kind)" }
    Send-Line 'begin' @{ action = $action }
    $details = switch ($action) {
        'backup' { Invoke-Backup }
        'import' { Invoke-Import }
        'make' { Invoke-Make }
        'stop' { Invoke-Stop }
        'start' { Invoke-Start }
        'restart' { Invoke-Restart }
        'served' { Invoke-Served }
        'trust' { Invoke-TrustChange 'trust' }
        'retrust' { Invoke-TrustChange 'retrust' }
        'untrust' { Invoke-TrustChange 'untrust' }
        'trusting' { Invoke-Trusting }
        'export' { Invoke-Export }
        'generate' { Invoke-Generate }
        'adopt' { Invoke-Adopt }
        'revert' { Invoke-Revert }
        'restore' { Invoke-Restore }
        'sweep' { Invoke-Sweep }
        default { throw "this script knows no action $action" }
    }
    Send-Line 'end' (@{ action = $action } + $details)
}

# ---- The visit

function Clear-Pfx {
    if ($visit.pfx_folder) {
        Remove-PfxFolder $visit.pfx_folder
        $visit.pfx_folder = $null
    }
}

function Complete-Visit {
    # However the visit ends. The service first; what goes wrong here is added to the error, never put in its place.
    try {
        if ($visit.stopped) { Start-OctopusService $visit.stopped }
        elseif ($visit.journal -and $visit.backstop -and (Get-ServiceFacts $p.service).state -eq 'Running') { Remove-Backstop }
    } catch {
        $visit.problem = Get-Cause $_
    }
    try { Clear-Pfx } finally { Exit-Mutex }
}

function Get-Applied {
    $facts = Get-ServiceFacts $p.service
    $applied = [ordered]@{
        configured = $null; served = $visit.served; new = $visit.journal.new; state = $facts.state
        process = $facts.process; process_started = $facts.process_started
        trusted = @(); trusting = $visit.trusting.thumbprints; trusting_error = $visit.trusting.error
        stored = $null; printed = $visit.printed
        journal = Select-Journal (Read-Journal $p.config)
    }
    if ($p.kind -eq 'server') {
        $applied.stored = (Get-Stored $p.exe $p.instance $p.limits.program).thumbprint
    } else {
        $applied.configured = Get-Configured
        $applied.trusted = @(Get-TrustList)
    }
    $applied
}

function Invoke-Visit {
    $actions = @($p.actions)
    Enter-Mutex
    try {
        Clear-Leftovers
        Open-Journal
        if (@($actions | Where-Object { $_ -ne 'sweep' }).Count) {
            Confirm-Expected
            Confirm-Planned
            if ($visit.journal.phase -eq 'begun') { Write-Journal 'begun' }
        }
        if ($p.kind -eq 'server') { Confirm-Sources $actions }
        # What must be refused is refused before anything is stopped.
        $actions | Where-Object { $TrustPhases.ContainsKey($_) } | Select-Object -First 1 | ForEach-Object { $null = Test-TrustDone $_ }
        foreach ($action in $actions) { Invoke-Action $action }
    } finally {
        Complete-Visit
    }
    if ($visit.problem) { throw $visit.problem }
    Send-Line 'applied' (Get-Applied)
}

try {
    Invoke-Visit
} catch {
    if ($visit.problem -and $_.Exception.Message -ne $visit.problem) { throw "$(Get-Cause $_). And then: $($visit.problem)" }
    throw
}
