# Serves visits to hosts of the sandbox, one after another. Standard input: for each visit one line, base64 of the UTF-8
# JSON {"environment", "folder", "stand_ins", "bootstrap"}, and the two lines that the visit itself reads. Standard
# output: what the visit prints, then EOT, its exit code and the end of a line.
$SandboxInput = [Console]::In
while ($null -ne ($SandboxLine = $SandboxInput.ReadLine())) {
    & {
        param($SandboxVisit)
        foreach ($SandboxVariable in $SandboxVisit.environment.PSObject.Properties) {
            [Environment]::SetEnvironmentVariable($SandboxVariable.Name, $SandboxVariable.Value)
        }
        [Environment]::CurrentDirectory = $SandboxVisit.folder
        Set-Location -LiteralPath $SandboxVisit.folder
        . $SandboxVisit.stand_ins
        # What it leaves unread is not for the next one.
        $SandboxLines = @($SandboxInput.ReadLine(), $SandboxInput.ReadLine()) -join "`n"
        [Console]::SetIn((New-Object System.IO.StringReader($SandboxLines)))
        & $SandboxVisit.bootstrap   # a file: its `exit` ends it, and not this loop
        $SandboxClient.Close()
    } (ConvertFrom-Json ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($SandboxLine))))
    [Console]::Out.WriteLine([string][char]4 + $LASTEXITCODE)
    [Console]::Out.Flush()
}
