#!/bin/sh
# dependencies.sh FOLDER [PYTHON]: below FOLDER/usr, ONNX Runtime's C header and nlohmann's json.hpp of Debian's packages,
# and links to the ONNX Runtime library of PYTHON's own package (default: python3).
#
# Nothing is installed: apt, with lists and a cache of its own in FOLDER, downloads two packages and dpkg unpacks them.
# With Debian 13 or newer, `apt install libonnxruntime-dev nlohmann-json3-dev libjpeg-dev` does instead of all this.
set -eu
[ $# -ge 1 ] || { echo "usage: dependencies.sh FOLDER [PYTHON]" >&2; exit 2; }
library=$("${2:-python3}" -c 'import pathlib, onnxruntime
print(next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")))')
mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/usr/lib"
cd "$1"
for name in libonnxruntime.so libonnxruntime.so.1; do
  ln -sf "$library" "usr/lib/$name"
done
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "dependencies.sh: apt knows no mirror of Debian; run apt-get update" >&2; exit 1; }
echo "deb [signed-by=$keys] $mirror trixie main" > sources.list
apt_here() {
  apt-get -qq -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o Acquire::Languages=none \
    -o APT::Sandbox::User="$(id -un)" "$@"
}
apt_here update
apt_here download libonnxruntime-dev nlohmann-json3-dev
for package in ./*.deb; do
  dpkg-deb -x "$package" .
done
rm -rf lists cache ./*.deb
