#!/bin/sh
# A program that behaves as adb does, with phones that are folders on this machine: $PHONES/<serial>, each the file system
# of a phone, with its programs in bin/ and what is said of it in is/: state (a line for each time that it is asked, the
# last one stays), model, old (before Android 7), calls (commands until it is lost), install (the answer), full (bytes of
# a file that has no room), corrupt (a file that arrives changed). It is lost as soon as is/lost exists.

fail() {
    echo "$1" >&2
    exit 1
}

devices() {
    echo "List of devices attached"
    for root in "$PHONES"/*/; do
        [ -d "$root/is" ] && [ ! -e "$root/is/lost" ] || continue
        read -r state < "$root/is/state"
        if [ "$(wc -l < "$root/is/state")" -gt 1 ]; then sed -i 1d "$root/is/state"; fi
        read -r model < "$root/is/model"
        echo "$(basename "$root")   $state product:stand model:$model device:in transport_id:1"
    done
    echo
}

# A shell there. Until Android 7 its ends of lines are those of a terminal, and its exit code is lost.
on_phone() {
    command=$(printf '%s' "$*" | sed "s#/sdcard#$root&#g; s#/data/local/tmp#$root&#g; s#/sys/class/power_supply#$root&#g")
    export PHONE="$root" PATH="$root/bin:$PATH"
    case $command in
    *trap*) # it goes on for long enough to lose the phone, and then finds nobody who reads
        mkfifo "$root/is/pipe"
        ${STAND_IN_SHELL:-sh} -c "$command" > "$root/is/pipe" 2>&1 < /dev/null &
        cat < "$root/is/pipe" &
        reader=$!
        while kill -0 $reader 2> /dev/null; do
            if [ -e "$root/is/lost" ]; then kill $reader; exit 1; fi
            sleep 0.05
        done
        rm "$root/is/pipe"
        ;;
    *) ${STAND_IN_SHELL:-sh} -c "$command" 2>&1 < /dev/null ;;
    esac
}

terminal() { sed 's/$/\r/'; }

push() {
    target="$root$2"
    full=$(cat "$root/is/full" 2> /dev/null)
    if [ -n "$full" ] && [ "$(wc -c < "$1")" -gt "$full" ]; then
        fail "adb: error: failed to copy '$1' to '$2': remote couldn't write: No space left on device"
    fi
    cp "$1" "$target" 2> /dev/null || fail "adb: error: failed to copy '$1' to '$2': remote couldn't create file"
    if [ "$(cat "$root/is/corrupt" 2> /dev/null)" = "$(basename "$1")" ]; then echo '!' >> "$target"; fi
    echo "$1: 1 file pushed, 0 skipped. 31.4 MB/s"
}

install() {
    [ -f "$2" ] || fail "adb: failed to stat $2: No such file or directory"
    echo "Performing Streamed Install"
    read -r answer < "$root/is/install"
    [ "$answer" = Success ] || fail "adb: failed to install $2: Failure [$answer]"
    touch "$root/installed"
    echo Success
}

if [ ! -e "$PHONES/started" ]; then
    touch "$PHONES/started"
    printf '* daemon not running; starting now at tcp:5037\n* daemon started successfully\n' >&2
fi
[ "$1" != devices ] || { devices; exit; }
[ "$1" = -s ] || fail "adb: more than one device/emulator"
serial=$2 root=$PHONES/$2 verb=$3
shift 3
if [ -e "$root/is/calls" ]; then
    echo . >> "$root/is/called"
    [ "$(wc -l < "$root/is/called")" -le "$(cat "$root/is/calls")" ] || touch "$root/is/lost"
fi
[ -d "$root/is" ] && [ ! -e "$root/is/lost" ] || fail "adb: device '$serial' not found"
case $verb in
shell) if [ -e "$root/is/old" ]; then on_phone "$@" | terminal; else on_phone "$@"; fi ;;
exec-out) on_phone "$@" ;;
push) push "$@" ;;
install) install "$@" ;;
uninstall) rm "$root/installed" && echo Success ;;
*) fail "adb: unknown command $verb" ;;
esac
