# Builds dist\softlan.exe on Windows 10 or 11 with Python 3.11 (64 bit). From the project's root:
#
#   powershell -ExecutionPolicy Bypass -File packaging\windows\build.ps1
#
# Everything is pinned by hash: the program's requirements by requirements\dev.txt, PyInstaller by requirements.txt
# beside this file. A CI job is the same line on a Windows runner, with dist\softlan.exe and its checksum kept.

$ErrorActionPreference = 'Stop'
Set-Location (Join-Path $PSScriptRoot '..\..')
$python = Join-Path $PWD 'build\exe-venv\Scripts\python.exe'

function Invoke-Checked([string] $program, [string[]] $arguments) {
    & $program @arguments
    if ($LASTEXITCODE -ne 0) { throw "$program $arguments ended with $LASTEXITCODE" }
}

if (-not (Test-Path $python)) { Invoke-Checked 'py' @('-3.11', '-m', 'venv', 'build\exe-venv') }
$pip = @('-m', 'pip', 'install', '--quiet', '--disable-pip-version-check')
Invoke-Checked $python ($pip + @('--require-hashes', '-r', 'requirements\dev.txt'))
Invoke-Checked $python ($pip + @('--require-hashes', '-r', 'packaging\windows\requirements.txt'))
Invoke-Checked $python ($pip + @('--no-deps', '--no-build-isolation', '.'))

# The version is written down in three places; they must agree.
$version = (& $python -c 'import softlan; print(softlan.__version__)').Trim()
foreach ($file in 'packaging\windows\version.txt', 'packaging\windows\softlan.manifest') {
    if (-not (Select-String -Quiet -SimpleMatch $version $file)) { throw "$file is not of version $version" }
}

Invoke-Checked $python @('-m', 'PyInstaller', '--noconfirm', '--distpath', 'dist', '--workpath', 'build\exe', 'packaging\windows\softlan.spec')

# The program asks for elevation as it starts, so on a desktop this opens a prompt; a CI runner is elevated.
$said = (& 'dist\softlan.exe' --version).Trim()
if ($said -ne "softlan $version") { throw "dist\softlan.exe says '$said'" }
Get-FileHash -Algorithm SHA256 'dist\softlan.exe' | ForEach-Object { "$($_.Hash.ToLower())  softlan.exe" } |
    Set-Content -Encoding ascii 'dist\softlan.exe.sha256'
Get-Content 'dist\softlan.exe.sha256'
