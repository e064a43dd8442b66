# octocert bootstrap: the constant -EncodedCommand of every visit. Its hash is what an administrator can pin.
# stdin: two ASCII lines, base64 of the UTF-8 script and base64 of the UTF-8 JSON with its parameters
# (5.1 decodes stdin by the console's code page). stdout: one JSON object a line, {"kind", "value"}.
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$language = "$($ExecutionContext.SessionState.LanguageMode)"
if ($language -ne 'FullLanguage') {
    # Application control forbids the .NET calls below: this much can still be said.
    '{"kind":"hello","value":{"version":"' + $PSVersionTable.PSVersion + '","language":"' + $language + '"}}'
    '{"kind":"error","value":{"message":"PowerShell runs in ' + $language + ' mode here","type":"LanguageMode","at":""}}'
    exit 1
}
function Send-Line($kind, $value) {
    $json = ConvertTo-Json -Compress -Depth 12 -InputObject @{ kind = $kind; value = $value }
    # ASCII only: no code page between here and the bot can change it.
    $ascii = [regex]::Replace($json, '[^\x20-\x7e]', { param($m) '\u{0:x4}' -f [int][char]$m.Value })
    [Console]::Out.WriteLine($ascii)
    [Console]::Out.Flush()
}
try {
    $utf8 = New-Object System.Text.UTF8Encoding($false, $true)
    $text = $utf8.GetString([Convert]::FromBase64String([Console]::In.ReadLine()))
    $parameters = $utf8.GetString([Convert]::FromBase64String([Console]::In.ReadLine())) | ConvertFrom-Json
    Send-Line 'hello' @{ version = "$($PSVersionTable.PSVersion)"; language = $language }
    $null = & ([scriptblock]::Create($text)) $parameters
    Send-Line 'done' $true   # without this line a visit did not end well, whatever its exit code
    exit 0
} catch {
    $e = $_.Exception
    while ($e -is [System.Management.Automation.MethodInvocationException] -and $e.InnerException) { $e = $e.InnerException }
    Send-Line 'error' @{ message = "$($e.Message)"; type = $e.GetType().FullName; at = "$($_.InvocationInfo.PositionMessage)" }
    exit 1
}
