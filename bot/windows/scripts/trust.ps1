# The part of octocert apply that changes which Octopus Servers a Tentacle trusts. It stands in front of apply.ps1.
#
# What it promises:
#  * It looks at the list before and afterwards: Tentacle's exit codes and messages say the same when nothing was changed.
#  * An entry that it was not asked for stays. No list is kept, and none is ever put back.
#  * It refuses what would cost a polling Tentacle its registration, follow another Server, or leave nobody trusted.

$TrustPhases = @{ trust = @('trusting', 'trusted'); retrust = @('retrusting', 'retrusted'); untrust = @('untrusting', 'untrusted') }

function Test-Same($text, $other) {
    # Not by -eq, which passes over the invisible marks that people copy out of Windows' dialogs; Octopus does not.
    [string]::Equals("$text", "$other", [StringComparison]::OrdinalIgnoreCase)
}

function Test-Exact($text, $other) {
    [string]::Equals("$text", "$other", [StringComparison]::Ordinal)
}

function Get-TrustList {
    Get-Trusted (Read-Configuration $p.config)
}

function Get-HostAndPort($address) {
    # `https://Octopus.example:10943/` as `octopus.example:10943`.
    $uri = $null
    if (-not [Uri]::TryCreate("$address", [UriKind]::Absolute, [ref]$uri)) { return "$address".ToLowerInvariant() }
    "$($uri.Host):$($uri.Port)".ToLowerInvariant()
}

function Get-Place($entry) {
    # Where the Server is polled; nothing for one that may connect.
    if ($entry.address) { Get-HostAndPort $entry.address } else { '' }
}

function Format-Entry($text, $entry) {
    # What must be the same again after a change: who is trusted, where it is polled, and under which name.
    "$text|$(Get-Place $entry)|$($entry.subscription)"
}

function Test-Listening($entry) {
    $entry.style -eq 1 -and -not $entry.address
}

# Each of these tells whether its work is done already, or refuses it.

function Test-Trusted($list) {
    @($list | Where-Object { (Test-Listening $_) -and (Test-Same $_.thumbprint $p.trust_new) }).Count -gt 0
}

function Test-Retrusted($list) {
    $ours = @($p.server_addresses | ForEach-Object { $_.ToLowerInvariant() })
    $old = @($list | Where-Object { (Test-Same $_.thumbprint $p.trust_old) })
    $new = @($list | Where-Object { (Test-Same $_.thumbprint $p.trust_new) })
    foreach ($entry in @($old | Where-Object { $_.address })) {
        if ($ours -notcontains (Get-HostAndPort $entry.address)) {
            Deny 'other-server' ("$($p.instance) also trusts $($p.trust_old) at $($entry.address), which is not an address of this " +
                "Octopus Server: update-trust would change that registration, too")
        }
    }
    $follows = @($new | Where-Object { $_.address -and $ours -contains (Get-HostAndPort $_.address) }).Count -gt 0
    if ($follows -and -not @($old | Where-Object { $_.address }).Count) { return $true }
    foreach ($entry in $old) {
        $twins = @($new | Where-Object { Test-Same (Get-Place $_) (Get-Place $entry) })
        if ($twins.Count -and -not (Test-Passing $list $entry)) {
            $place = $entry.address
            if (-not $place) { $place = 'incoming connections' }
            Deny 'duplicate' ("$($p.instance) trusts both $($p.trust_old) and $($p.trust_new) for ${place}: update-trust would make a " +
                "second entry of $($p.trust_new), after which the program fails; remove one of the two first")
        }
    }
    if (@($old | Where-Object { $_.address }).Count) { return $false }
    Deny 'untrusted' "$($p.instance) polls no Octopus Server of this address whose certificate is $($p.trust_old) or $($p.trust_new)"
}

function Test-Passing($list, $entry) {
    # Whether an entry is one of a Tentacle that listens as well as polls, and lets both certificates in already. There
    # update-trust works in three steps, see Remove-Passing. No polling entry may carry the new one: it would go, too.
    $new = @($list | Where-Object { (Test-Same $_.thumbprint $p.trust_new) })
    (Test-Listening $entry) -and $new.Count -and -not @($new | Where-Object { -not (Test-Listening $_) }).Count
}

function Test-Untrusted($list) {
    # By the exact text, as the program does: the same thumbprint in other letters is another entry.
    if (-not @($list | Where-Object { (Test-Listening $_) -and (Test-Same $_.thumbprint $p.trust_new) -and -not (Test-Exact $_.thumbprint $p.trust_old) }).Count) {
        Deny 'untrusted' "$($p.instance) does not trust $($p.trust_new): without $($p.trust_old) it would let nobody in"
    }
    $old = @($list | Where-Object { (Test-Exact $_.thumbprint $p.trust_old) })
    if (@($old | Where-Object { -not (Test-Listening $_) }).Count) {
        Deny 'polling' "$($p.instance) polls an Octopus Server by the entry $($p.trust_old): to remove it would cost its registration"
    }
    $old.Count -eq 0
}

function Test-TrustDone($action) {
    $list = @(Get-TrustList)
    switch ($action) {
        'trust' { Test-Trusted $list }
        'retrust' { Test-Retrusted $list }
        'untrust' { Test-Untrusted $list }
    }
}

function Get-TrustArguments($action) {
    switch ($action) {
        'trust' { 'configure', "--instance=$($p.instance)", "--trust=$($p.trust_new)" }
        'retrust' { 'update-trust', "--instance=$($p.instance)", "--oldThumbprint=$($p.trust_old)", "--newThumbprint=$($p.trust_new)" }
        'untrust' { 'configure', "--instance=$($p.instance)", "--remove-trust=$($p.trust_old)" }
    }
}

function Get-Wanted($action, $list) {
    # The entries of before that must be there afterwards, as they then are.
    foreach ($entry in $list) {
        $text = $entry.thumbprint
        if ($action -eq 'untrust' -and (Test-Exact $text $p.trust_old)) { continue }
        if ($action -eq 'retrust' -and (Test-Same $text $p.trust_old)) { $text = $p.trust_new }
        if ($action -eq 'trust' -and (Test-Same $text $p.trust_new) -and -not $entry.address) { continue }   # becomes the new one
        Format-Entry $text $entry
    }
}

function Remove-Passing($list) {
    # Takes out the entries that let the new certificate in, of which update-trust would make second ones; afterwards the
    # old one is let in again, beside it. What runs goes by its own list until its restart, and a visit that dies in
    # between is gone on with: the polling entries tell how far it came. Returns what is to be let in again.
    $old = @($list | Where-Object { (Test-Same $_.thumbprint $p.trust_old) -and (Test-Passing $list $_) })
    if (-not $old.Count) { return }
    $new = @($list | Where-Object { (Test-Same $_.thumbprint $p.trust_new) } | ForEach-Object { $_.thumbprint })
    foreach ($text in @($new | Select-Object -Unique)) {
        $null = Invoke-OctopusProgram @('configure', "--instance=$($p.instance)", "--remove-trust=$text")
    }
    $old[0].thumbprint
}

function Invoke-TrustChange($action) {
    $doing, $done = $TrustPhases[$action]
    if (Test-TrustDone $action) {
        # If a visit of this run died while, or right after, the list was written, what runs may not know it yet.
        if ($visit.journal.phase -eq $doing) { Save-Written $done $visit.journal.new }
        return @{ already = $true; changed = 0 }
    }
    $list = @(Get-TrustList)
    $wanted = @(Get-Wanted $action $list)
    Write-Journal $doing
    $again = $null
    if ($action -eq 'retrust') { $again = Remove-Passing $list }
    $arguments = @(Get-TrustArguments $action)
    $result = Invoke-OctopusProgram $arguments
    if ($again) { $null = Invoke-OctopusProgram @('configure', "--instance=$($p.instance)", "--trust=$again") }
    $now = @(Get-TrustList)
    $kept = @($now | ForEach-Object { Format-Entry $_.thumbprint $_ })
    $missing = @($wanted | Where-Object { $entry = $_; -not @($kept | Where-Object { Test-Same $_ $entry }).Count })
    if ($action -eq 'trust' -and -not (Test-Trusted $now)) { $missing += $p.trust_new }
    $left = @($now | Where-Object { ($action -eq 'retrust' -and (Test-Same $_.thumbprint $p.trust_old) -and
            -not ($again -and (Test-Listening $_))) -or
        ($action -eq 'untrust' -and (Test-Exact $_.thumbprint $p.trust_old)) })
    if ($missing.Count -or $left.Count) {
        throw ("$($arguments[0]) ended with exit code $($result.code), and the list of trusted Octopus Servers is not what it " +
            "should be ($($missing.Count) missing, $($left.Count) left): $(Get-Complaint $result)")
    }
    Save-Written $done $visit.journal.new
    # What the program says of it is told, not relied on.
    @{ already = $false; changed = [regex]::Matches($result.out, ' - changing to trust ').Count }
}

function Invoke-Trusting {
    # What the running process trusts: the list counts from its start on. A service that has just started says it late.
    $begin = Get-Seconds
    while ($true) {
        $facts = Get-ServiceFacts $p.service
        $visit.trusting = Get-Trusting (Read-Configuration $p.config) $p.config $facts
        $said = @($visit.trusting.thumbprints | Where-Object { Test-Same $_ $p.trust_new }).Count -gt 0
        if ($said -or (Get-Seconds) - $begin -gt $p.limits.loopback) { break }
        Start-Sleep -Milliseconds 500
    }
    $journal = $visit.journal
    $same = $facts.process -eq $journal.write_process -and $facts.process_started -eq $journal.write_process_started
    if ($facts.process -and $same -and -not $said) {
        $visit.trusting.error = "process $($facts.process) has run since before the list was written"
    }
    @{ already = $false; error = $visit.trusting.error }
}
