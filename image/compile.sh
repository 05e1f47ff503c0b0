#!/usr/bin/env bash
# Compiles what the image holds, the same way on this machine and inside `docker build`: a static binary that names its dependencies, for
# the architecture that this runs on, and the same list as a CycloneDX SBOM.
#
#   compile.sh DIR        writes DIR/ringfence and DIR/ringfence.cdx.json
#
# SOURCE_DATE_EPOCH: when the SBOM was written, in seconds since 1970 (default: the commit's time, or now where there is no git)
set -euo pipefail

out=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}
tools=$built/image-tools
cd "$root"

say() { printf 'image: %s\n' "$*" >&2; }

# One of exactly this version, compiled once; unoptimised, because compiling it takes longer than all that it does.
tool() { # NAME VERSION
    [ -x "$tools/$1-$2/bin/$1" ] && return
    say "building $1 $2"
    CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --debug --target-dir "$tools/target" --root "$tools/$1-$2" "$1@$2"
}

case "$(uname -s)-$(uname -m)" in
Linux-x86_64 | Linux-aarch64) target=$(uname -m)-unknown-linux-musl ;;
*) say "no image is built on $(uname -s) $(uname -m): use docker build, which brings its own Linux"; exit 1 ;;
esac
# ring and mimalloc are C and assembly, and need the headers of that C library.
command -v musl-gcc >/dev/null || { say "musl-gcc is missing: on Debian and Ubuntu, apt install musl-tools"; exit 1; }
if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
    command -v rustup >/dev/null || { say "Rust's standard library for $target is missing, and rustup to fetch it: https://rustup.rs"; exit 1; }
    rustup target add "$target"
fi
tool cargo-auditable 0.7.7
tool cargo-cyclonedx 0.5.9

# Paths of the machine that compiles stay out of the binary, which so is the same wherever it is compiled.
separator=$'\x1f'
export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo$separator--remap-path-prefix=$root=/src"
# 80,000 addresses are corrected at start; listed one by one they would take 1.8 MB.
CARGO_ENCODED_RUSTFLAGS+="${separator}-Clink-arg=-Wl,-z,pack-relative-relocs"
export "CC_${target//-/_}=musl-gcc"
# Functions that come out as the same code stand there once, which GNU's linker cannot do. Rust brings one that can.
linkers=$(rustc --print sysroot)/lib/rustlib/$(rustc --version --verbose | sed -n 's/^host: //p')/bin/gcc-ld
[ -x "$linkers/ld.lld" ] || { say "this Rust brings no lld in $linkers: install Rust by rustup"; exit 1; }
"$tools/cargo-auditable-0.7.7/bin/cargo-auditable" auditable rustc --release --locked --bin ringfence --target "$target" -- \
    "-Clink-arg=-B$linkers" -Clink-arg=-fuse-ld=lld -Clink-arg=-Wl,--icf=all

mkdir -p "$out"
install -m 755 "$built/$target/release/ringfence" "$out/ringfence"

# It writes beside each manifest of the workspace. That the list is the binary's own is what tests/image looks at.
sbom=.sbom-$$
trap 'rm -f "$root/$sbom.json" "$root"/tests/*/"$sbom.json"' EXIT
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
"$tools/cargo-cyclonedx-0.5.9/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 \
    --target "$target" --override-filename "$sbom"
# Without the line ends and the indentation, a fifth of it: the image holds it, and no text of JSON has either.
sed -e 's|path+file://[^"#]*#|path+file:///src#|g' -e 's/^ *//' "$sbom.json" | tr -d '\n' >"$out/ringfence.cdx.json"
chmod 644 "$out/ringfence.cdx.json"
