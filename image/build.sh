#!/usr/bin/env bash
# Builds the image of the Dockerfile with a binary that is compiled here: no base image is pulled, and no daemon and no root is needed.
#
#   build.sh DIR [NAME]        writes DIR/ringfence.tar, which `docker load` and `ctr images import` take, and whatever copies images.
#                              NAME: under which they know it (default: ringfence:VERSION, which the chart asks for)
set -euo pipefail

mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${2:-ringfence:$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}

command -v buildah >/dev/null || { echo "buildah is missing: on Debian and Ubuntu, apt install buildah" >&2; exit 1; }
image/compile.sh "$out/binary"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
# The same commit is the same image.
created=$(git log -1 --format=%ct 2>/dev/null || echo 0)
buildah build --quiet --build-context "binary=$out/binary" --build-arg "REVISION=$revision" --timestamp "$created" \
    --identity-label=false --tag "$name" . >/dev/null
# Beside and then over: nobody reads half an image.
buildah push --quiet "$name" "docker-archive:$work/image.tar:$name" >/dev/null
cp "$work/image.tar" "$out/.ringfence.tar.new"
mv "$out/.ringfence.tar.new" "$out/ringfence.tar"
