# The part of octocert apply that changes the certificate of the Octopus Server. It stands in front of apply.ps1.
#
# The certificate lies in the Server's database: it is imported on one node, and every node takes it up when it starts.
# What it promises:
#  * The old and a newly made certificate are kept as PFX files in the folder of their run, which only SYSTEM and
#    Administrators may open, until they are swept. Each was opened again after it was written.
#  * No password is on a command line: files have the empty one. UNVERIFIED: that the Server's program writes and takes
#    such files, and what it prints, is known from its documentation only.

function Get-KeptFile($run, $name) {
    [IO.Path]::Combine((Get-BackupFolder $run), "$name.pfx")
}

function Read-Kept($path) {
    Read-Pfx ([IO.File]::ReadAllBytes($path))
}

function Confirm-Kept($run, $name, $promised) {
    # What is about to be imported is there, can be read, and is what was promised.
    $file = Get-KeptFile $run $name
    if (-not [IO.File]::Exists($file)) { Deny 'missing' "the $name certificate that run $run kept is gone from this host" }
    $found = Read-Kept $file
    if ($found.error) { Deny 'missing' "the $name certificate that run $run kept is of no use: $($found.error)" }
    if ($promised -and $found.thumbprint -ne $promised) { Deny 'missing' "run $run kept $($found.thumbprint), not $promised as planned" }
    $found.thumbprint
}

function Save-Kept($name, $command, $reason) {
    # Has the program write a PFX, and keeps it under its name only once it was opened again.
    $folder = Get-BackupFolder $p.run
    Confirm-Folder (Get-WorkFolder)
    Confirm-Folder $folder
    $fresh = [IO.Path]::Combine($folder, "unproven-$name.pfx")
    [IO.File]::Delete($fresh)
    $result = Invoke-OctopusProgram @($command, "--instance=$($p.instance)", "--export-pfx=$fresh")
    if (-not [IO.File]::Exists($fresh)) {
        Deny $reason "$command ended with exit code $($result.code) and wrote no file: $(Get-Complaint $result)"
    }
    $found = Read-Kept $fresh
    $isOld = $found.thumbprint -eq $p.expected
    if ($found.error -or ($name -eq 'old') -ne $isOld) {
        [IO.File]::Delete($fresh)
        if ($found.error) { Deny $reason "$command wrote a file that is of no use: $($found.error)" }
        if ($isOld) { Deny $reason "$command wrote the certificate that the Server has already, $($p.expected)" }
        Deny $reason "$command wrote $($found.thumbprint), not the Server's certificate $($p.expected)"
    }
    [IO.File]::Move($fresh, (Get-KeptFile $p.run $name))
    $found.thumbprint
}

function Invoke-Export {
    $file = Get-KeptFile $p.run 'old'
    $already = [IO.File]::Exists($file)
    if ($already) {
        $found = Read-Kept $file
        if ($found.error) { Deny 'export' "the kept certificate of run $($p.run) is of no use: $($found.error)" }
        $thumbprint = $found.thumbprint
    } else {
        if ((Get-StoredNow) -ne $p.expected) { throw "the certificate that run $($p.run) kept is gone" }
        $thumbprint = Save-Kept 'old' 'export-certificate' 'export'
    }
    $about = [IO.Path]::Combine((Get-BackupFolder $p.run), 'about.json')   # written last: where it is, the file is whole
    if (-not [IO.File]::Exists($about)) {
        Write-Json $about ([ordered]@{
            run = $p.run; instance = $p.instance; config = $p.config; thumbprint = $thumbprint; at = Format-Time (Get-HostTime)
        })
        if ($visit.journal.phase -eq 'begun') { Write-Journal 'exported' }
    }
    @{ already = $already }
}

function Invoke-Generate {
    # Made and kept, not taken up: until then the Server does not know it.
    $file = Get-KeptFile $p.run 'new'
    $already = [IO.File]::Exists($file)
    $phase = $visit.journal.phase
    $untouched = @('begun', 'exported') -contains $phase
    if ($already) {
        $found = Read-Kept $file
        if ($found.error) { Deny 'generate' "the certificate that run $($p.run) made is of no use: $($found.error)" }
        $visit.journal.new = $found.thumbprint
    } elseif (-not $untouched) {
        Deny 'missing' "the certificate $($visit.journal.new) that run $($p.run) made is gone"
    } else {
        $visit.journal.new = Save-Kept 'new' 'new-certificate' 'generate'
    }
    if ($untouched) { $phase = 'generated' }
    Write-Journal $phase
    @{ already = $already }
}

function Get-StoredNow {
    $stored = Get-Stored $p.exe $p.instance $p.limits.program
    if ($stored.error) { throw "the certificate of the Octopus Server cannot be read: $($stored.error)" }
    $stored.thumbprint
}

function Import-Server($file, $wanted, $doing, $done, $new) {
    # The exit code is no evidence, what the program then reads in the database is.
    Write-Journal $doing
    $result = Invoke-OctopusProgram @('import-certificate', "--instance=$($p.instance)", "--from-file=$file")
    Clear-Pfx
    $stored = Get-StoredNow
    if ($stored -ne $wanted) {
        throw "import-certificate ended with exit code $($result.code), and the Server's certificate is ${stored}: $(Get-Complaint $result)"
    }
    # Newer versions print it in one line, older ones in two.
    $said = [regex]::Match($result.out, 'old thumbprint = ([0-9A-F]{40})[,\s]+new thumbprint = ([0-9A-F]{40})')
    if ($said.Success) { $visit.printed = [ordered]@{ old = $said.Groups[1].Value; new = $said.Groups[2].Value } }
    Save-Written $done $new
    @{ already = $false }
}

function Invoke-Adopt {
    $wanted = $p.new
    if (-not $wanted) { $wanted = $visit.journal.new }
    if ($wanted -and (Get-StoredNow) -eq $wanted) {
        # If a visit of this run died while, or right after, it was imported, what runs does not know it yet.
        if ($visit.journal.phase -eq 'adopting') { Save-Written 'adopted' $wanted }
        return @{ already = $true }
    }
    if ($p.pfx) {
        $bytes = [Convert]::FromBase64String($p.pfx)
        Confirm-Pfx $bytes
        $file = Save-Pfx $bytes
    } else {
        $file = Get-KeptFile $p.run 'new'
        $wanted = Confirm-Kept $p.run 'new' $wanted
    }
    $visit.journal.new = $wanted
    Import-Server $file $wanted 'adopting' 'adopted' $wanted
}

function Get-RevertSource {
    # Whose copy is put back, and which certificate was promised to be in it.
    if ($p.restore_run -and $p.restore_run -ne $p.run) { @{ run = $p.restore_run; promised = $p.new } }
    else { @{ run = $p.run; promised = $visit.journal.old } }
}

function Invoke-Revert {
    $from = Get-RevertSource
    $old = Confirm-Kept $from.run 'old' $from.promised
    $new = $old
    if ($from.run -eq $p.run) { $new = $visit.journal.new }
    if ((Get-StoredNow) -eq $old) {
        if ($visit.journal.phase -eq 'reverting') { Save-Written 'reverted' $new }
        return @{ already = $true }
    }
    Import-Server (Get-KeptFile $from.run 'old') $old 'reverting' 'reverted' $new
}

function Confirm-Sources($actions) {
    # What must be refused is refused before anything is stopped.
    if ($actions -contains 'revert') {
        $from = Get-RevertSource
        $null = Confirm-Kept $from.run 'old' $from.promised
    }
    $begun = $p.new -ne $p.expected -and @('begun', 'exported', 'generated') -contains $visit.journal.phase
    if ($begun -and -not $p.pfx -and $actions -contains 'adopt' -and $actions -notcontains 'generate') {
        $null = Confirm-Kept $p.run 'new' $p.new
    }
}
