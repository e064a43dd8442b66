# What Windows has and this machine has not, for the scripts of octocert under PowerShell 7: asked of the world over its
# bridge. Loaded before the bootstrap. A function hides the cmdlet of its name; an alias hides even a function that the
# script itself defines, which is how the few functions that are made of .NET's Windows-only parts are replaced.
Set-StrictMode -Version 2.0
$SandboxAddress, $SandboxPort, $SandboxToken = $env:OCTOCERT_BRIDGE -split ' '
$SandboxClient = New-Object System.Net.Sockets.TcpClient($SandboxAddress, [int]$SandboxPort)
$SandboxClient.NoDelay = $true
$SandboxReader = New-Object System.IO.StreamReader($SandboxClient.GetStream())
$SandboxWriter = New-Object System.IO.StreamWriter($SandboxClient.GetStream())

function Request-World($op, [object[]]$arguments) {
    $request = @{ token = $SandboxToken; op = $op; arguments = @($arguments) }
    $SandboxWriter.WriteLine((ConvertTo-Json -Compress -Depth 5 -InputObject $request))
    $SandboxWriter.Flush()
    $line = $SandboxReader.ReadLine()
    if (-not $line) { throw 'the sandbox is gone' }
    $answer = ConvertFrom-Json $line
    if ($answer.PSObject.Properties['error']) { throw $answer.error }
    $answer.value
}

function Get-Service {
    param($Name)
    if (-not (Request-World 'service' @($Name))) { throw "Cannot find any service with service name '$Name'." }
    $service = [pscustomobject]@{ Name = $Name }
    $service | Add-Member -MemberType ScriptMethod -Name Stop -Value { $null = Request-World 'stop_service' @($this.Name) }
    $service | Add-Member -MemberType ScriptMethod -Name Start -Value { $null = Request-World 'start_service' @($this.Name) }
    $service
}

function Get-CimInstance {
    param($ClassName, $Filter)
    $property, $value = "$Filter" -split '=', 2
    $value = $value -replace "^'|'`$", '' -replace '\\(.)', '$1'
    $found = switch ("$ClassName $property") {
        'Win32_OperatingSystem ' { Request-World 'computer' @() }
        'Win32_Service Name' { Request-World 'service' @($value) }
        'Win32_Process ProcessId' { Request-World 'process' @([int]$value) }
        'Win32_Process ParentProcessId' { Request-World 'children' @([int]$value) }
        default { throw "no stand-in for Get-CimInstance $ClassName $Filter" }
    }
    foreach ($object in $found) {
        if ($object.PSObject.Properties['CreationDate']) {
            $styles = [Globalization.DateTimeStyles]::RoundtripKind
            $object.CreationDate = [DateTime]::Parse($object.CreationDate, [Globalization.CultureInfo]::InvariantCulture, $styles)
        }
        $object
    }
}

function Get-ItemProperty {
    [CmdletBinding()]
    param($LiteralPath)
    Request-World 'registry' @($LiteralPath)
}

function Start-Sleep {
    param($Seconds = 0, $Milliseconds = 0)
    $null = Request-World 'sleep' @($Seconds + $Milliseconds / 1000)
}

function Get-WorldTime {
    [DateTime]::Parse((Request-World 'now' @()), [Globalization.CultureInfo]::InvariantCulture, [Globalization.DateTimeStyles]::RoundtripKind)
}
function Get-WorldSeconds { Request-World 'seconds' @() }
function Test-WorldElevated { (Request-World 'computer' @()).Elevated }
function New-WorldFolder($path) { $null = Request-World 'protect' @($path) }
function Test-WorldFolder($path) { Request-World 'is_protected' @($path) }
function Get-WorldLoopback($listenIp, $port) { Request-World 'loopback' @(, $listenIp) }
function New-WorldMutex($name) { New-Object System.Threading.Mutex($false, "Global\$(Request-World 'mutex' @($name))") }

Set-Alias -Scope Global -Name Get-HostTime -Value Get-WorldTime
Set-Alias -Scope Global -Name Get-Seconds -Value Get-WorldSeconds
Set-Alias -Scope Global -Name Test-Elevated -Value Test-WorldElevated
Set-Alias -Scope Global -Name New-ProtectedFolder -Value New-WorldFolder
Set-Alias -Scope Global -Name Test-FolderProtected -Value Test-WorldFolder
Set-Alias -Scope Global -Name Get-LoopbackAddress -Value Get-WorldLoopback
Set-Alias -Scope Global -Name New-NamedMutex -Value New-WorldMutex

if ($env:OCTOCERT_WATCHED) {
    # A fault waits for one of this script's lines: it strikes at the line itself, not when the line happens to be read.
    function Send-WatchedLine($kind, $value) {
        & (Get-Command -Name Send-Line -CommandType Function) $kind $value
        $null = Request-World 'now' @()
    }
    Set-Alias -Scope Global -Name Send-Line -Value Send-WatchedLine
}
