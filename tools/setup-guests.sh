#!/usr/bin/env bash
# Makes a Rust compiler ready that can build guests, and prints the setting to use: RUSTC=/path/to/rustc.
#
# usage: tools/setup-guests.sh              (or: eval "$(tools/setup-guests.sh)")
#
#   1. If the user's own rustc has all wasm targets, that one is used and nothing is done.
#   2. Else, with GUEST_TOOLCHAIN=rustup, `rustup target add` is run. This is never done unasked: it downloads from
#      a server of its own and changes a toolchain that other projects use.
#   3. Else, on Debian, its packaged rustc is unpacked below the cache directory, with a standard library built from
#      its packaged source. Nothing is installed in the system.
#
# GUEST_TOOLCHAIN=debian skips the first step. The setting is also kept in $XDG_CACHE_HOME/rwasm/guest-toolchain/env.
# Running it again costs nothing; running it twice at once, or interrupting it, does no harm.
set -euo pipefail

readonly TARGETS=(wasm32-unknown-unknown wasm32-wasip1 wasm32-wasip2)
# The oldest packaged compiler known to work. Debian's first one with a wasm target, 1.85, has no component linker.
readonly VERSION_MIN=1.96
readonly HOST=x86_64-unknown-linux-gnu
readonly HOME_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/rwasm/guest-toolchain"
readonly PREFIX="$HOME_DIR/debian"
# Changes when this script makes something else of the same packages; a prefix of another number is made anew.
readonly RECIPE=2

say() { printf 'setup-guests: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# has_targets RUSTC: whether this compiler has every target, and the linker that makes components.
has_targets() {
    local sysroot target
    sysroot=$("$1" --print sysroot 2>/dev/null) || return 1
    for target in "${TARGETS[@]}"; do
        compgen -G "$sysroot/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null || return 1
    done
    compgen -G "$sysroot/lib/rustlib/*/bin/wasm-component-ld" >/dev/null
}

is_ready() { [ "$(cat "$PREFIX/recipe" 2>/dev/null)" = "$RECIPE" ] && has_targets "$PREFIX/bin/rustc"; }

# use RUSTC: records and prints the setting, and ends.
use() {
    mkdir -p "$HOME_DIR"
    local line temporary="$HOME_DIR/env.$$"
    line=$(printf 'RUSTC=%q' "$1")
    if [ "$line" != "$(tail -n 1 "$HOME_DIR/env" 2>/dev/null)" ]; then
        printf '# The compiler that builds guests; written by tools/setup-guests.sh.\n%s\n' "$line" >"$temporary"
        mv "$temporary" "$HOME_DIR/env"
    fi
    printf '%s\n' "$line"
    exit 0
}

# --- the user's own toolchain ---

user_rustc() {
    # rustup's shim reads settings that depend on the directory; the compiler behind it does not.
    local rustc="${RUSTC:-rustc}" sysroot
    sysroot=$("$rustc" --print sysroot 2>/dev/null) || return 1
    if [ -x "$sysroot/bin/rustc" ]; then printf '%s\n' "$sysroot/bin/rustc"; else command -v "$rustc"; fi
}

add_with_rustup() {
    have rustup || die "GUEST_TOOLCHAIN=rustup, but there is no rustup here; install it, or leave the variable unset"
    say "rustup target add ${TARGETS[*]}"
    rustup target add "${TARGETS[@]}" >&2 || die "rustup could not add the targets; see its message above"
    local rustc
    if rustc=$(user_rustc) && has_targets "$rustc"; then use "$rustc"; fi
    die "rustup added the targets, but ${RUSTC:-rustc} does not have them; is it rustup's?"
}

# --- Debian's toolchain, unpacked ---

candidate() { apt-cache policy "$1" | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'; }

is_offered() {
    local version
    version=$(candidate rustc-web)
    [ -n "$version" ] && dpkg --compare-versions "$version" ge "$VERSION_MIN"
}

update_lists() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "$1; run \`apt-get update\` as root, then this again"
        as_root=(sudo)
    fi
    say "$1: apt-get update"
    "${as_root[@]}" apt-get update -qq >&2 || die "apt-get update failed; see its message above"
}

# The packages to unpack, as NAME=VERSION where the version matters, one a line.
packages() {
    local version release llvm library
    version=$(candidate rustc-web)
    release=$(printf '%s' "$version" | grep -oE '^[0-9]+\.[0-9]+')
    library="libstd-rust-web-$release"
    llvm=$(apt-cache show "$library=$version" | grep -oE 'libllvm[0-9]+' | head -n 1) || true
    [ -n "$llvm" ] || die "apt offers rustc-web $version without its library $library; run \`apt-get update\`, then this again"
    printf '%s\n' "rustc-web=$version" "rust-web-llvm=$version" "$library=$version" "libstd-rust-web-dev=$version" \
        "rust-web-src=$version" "lld-${llvm#libllvm}" "$llvm" wasi-libc
    # Shared libraries of the compiler that this machine lacks. Named explicitly above is what it may have elsewhere.
    apt-get --simulate --no-install-recommends install "$library=$version" "lld-${llvm#libllvm}" |
        awk -v own="^($library|lld-.*|$llvm)$" '$1 == "Inst" && $2 !~ own { print $2 }'
}

download() {
    local list
    list=$(packages) || exit 1
    mapfile -t list <<<"$list"
    say "downloading ${#list[@]} packages (140 MB): ${list[0]} …"
    # Run as this user, who alone can write to this directory.
    (cd "$1" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 "${list[@]}" >&2)
}

# Debian's library is split over two packages, and rustc looks for its tools beside the library.
unpack() {
    local root=$1 package tools
    for package in "$root"/debs/*.deb; do
        dpkg --extract "$package" "$root" || die "cannot unpack ${package##*/}; is the disk full?"
    done
    rm -rf "$root/debs"
    tools="$root/usr/lib/rustlib/$HOST/bin"
    mkdir -p "$tools" "$root/bin"
    local lld
    lld=$(cd "$root/usr/lib" && compgen -G 'llvm-*/bin/wasm-ld') || die "lld's package holds no wasm-ld; please report this"
    ln -sfn "../../../${lld%/*}/lld" "$tools/rust-lld"
    ln -sfn "../../../$lld" "$tools/wasm-ld"
    local tool
    for tool in rustc rustdoc; do
        cat >"$root/bin/$tool" <<'WRAPPER'
#!/bin/sh
usr=$(dirname "$(dirname "$(readlink -f "$0")")")/usr
export LD_LIBRARY_PATH="$usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$usr/bin/${0##*/}" "$@"
WRAPPER
        chmod +x "$root/bin/$tool"
    done
    "$root/bin/rustc" --version >&2 || die "the unpacked rustc does not start; see the message above"
}

# Builds the standard library for every target. Its own dependencies come from crates.io.
build_library() {
    local root=$1 source target library
    source=$(compgen -G "$root/usr/src/rustc-*/library") || die "rust-web-src holds no library; please report this"
    # Debian leaves out the crates that only tests need, so nothing may ask for them.
    sed -i -E '/^ *"(coretests|alloctests)",$/d' "$source/Cargo.toml"
    local manifest
    for manifest in "$source"/*/Cargo.toml; do
        awk '/^\[/ { skip = /^\[(target\..*\.)?dev-dependencies/ } !skip' "$manifest" >"$manifest.new"
        mv "$manifest.new" "$manifest"
    done
    for target in "${TARGETS[@]}"; do
        say "building the standard library for $target"
        # Not in the caller's settings: they are for guests, not for this.
        (cd "$source" && env -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS \
            RUSTC="$root/bin/rustc" RUSTC_BOOTSTRAP=1 __CARGO_DEFAULT_LIB_METADATA=rwasm \
            CARGO_PROFILE_RELEASE_DEBUG=0 RUSTFLAGS="-Cembed-bitcode=yes -Zforce-unstable-if-unmarked" \
            CARGO_TARGET_DIR="$root/build" \
            cargo build --quiet --release --target "$target" --manifest-path sysroot/Cargo.toml >&2) ||
            die "the standard library for $target does not build; see cargo's message above"
        library="$root/usr/lib/rustlib/$target/lib"
        mkdir -p "$library/self-contained"
        cp "$root/build/$target"/release/deps/*.rlib "$library/"
        case $target in
            *wasi*)
                cp "$root"/usr/lib/wasm32-wasi/{libc.a,crt1-reactor.o} "$library/self-contained/"
                build_start "$root" "$target" "$library/self-contained/crt1-command.o"
                ;;
        esac
    done
    rm -rf "${root:?}/build" "${root:?}/usr/src" "${root:?}/usr/share"
}

# Builds `_start`, the entry of commands. The one of Debian's C library does not run the constructors itself, so the linker makes every
# export run them, `cabi_realloc` too; there they call WASI while a call to WASI waits for memory, and a command with a directory traps.
build_start() {
    "$1/bin/rustc" --target "$2" --crate-name start --crate-type lib --edition 2024 -O -Cpanic=abort --emit obj -o "$3" - <<'RUST' ||
#![no_std]
unsafe extern "C" {
    fn __wasm_call_ctors();
    fn __main_void() -> i32;
    fn __wasm_call_dtors();
    fn __wasi_proc_exit(status: i32) -> !;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _start() {
    unsafe {
        __wasm_call_ctors();
        let status = __main_void();
        __wasm_call_dtors();
        if status != 0 {
            __wasi_proc_exit(status);
        }
    }
}
RUST
        die "the entry of commands for $2 does not build; see the message above"
}

set_up_debian() {
    if is_ready; then use "$PREFIX/bin/rustc"; fi
    local tool
    for tool in apt-get apt-cache dpkg; do
        have "$tool" || die "rustc lacks the wasm targets, and only Debian has them packaged; run \`rustup target add ${TARGETS[*]}\`"
    done
    [ "$(dpkg --print-architecture)" = amd64 ] ||
        die "Debian's packages are used on x86-64 only; run \`rustup target add ${TARGETS[*]}\`"
    for tool in cargo cc flock; do
        have "$tool" || die "there is no $tool here; install it, then run this again"
    done

    mkdir -p "$HOME_DIR"
    exec 9>"$HOME_DIR/lock"
    flock --nonblock 9 || { say "waiting for another run to end"; flock 9; }
    # Another run may have done it meanwhile.
    if is_ready; then use "$PREFIX/bin/rustc"; fi

    local offered
    offered=$(candidate rustc-web)
    say "rustc has not all of ${TARGETS[*]}; setting up Debian's in $PREFIX (once, about two minutes, 700 MB)"
    is_offered || update_lists "apt offers rustc-web ${offered:-in no version}, and $VERSION_MIN or newer is needed"
    is_offered || die "apt has no rustc-web $VERSION_MIN or newer; use Debian 12 or newer with its security updates, or GUEST_TOOLCHAIN=rustup"

    local root="$HOME_DIR/debian.new"
    rm -rf "$root"
    mkdir -p "$root/debs"
    if ! download "$root/debs"; then
        # Lists that are a day old may name packages that have been replaced since.
        update_lists "a package could not be downloaded"
        download "$root/debs" || die "the packages could not be downloaded; see apt's message above"
    fi
    unpack "$root"
    build_library "$root"
    has_targets "$root/bin/rustc" || die "the toolchain was built, but lacks a target; please report this"
    echo "$RECIPE" >"$root/recipe"
    rm -rf "$PREFIX"
    mv "$root" "$PREFIX"
    say "done"
    use "$PREFIX/bin/rustc"
}

case ${GUEST_TOOLCHAIN:-} in
    '')
        if rustc=$(user_rustc) && has_targets "$rustc"; then use "$rustc"; fi
        set_up_debian
        ;;
    debian) set_up_debian ;;
    rustup)
        if rustc=$(user_rustc) && has_targets "$rustc"; then use "$rustc"; fi
        add_with_rustup
        ;;
    *) die "GUEST_TOOLCHAIN is \`$GUEST_TOOLCHAIN\`; set it to rustup or debian, or leave it unset" ;;
esac
