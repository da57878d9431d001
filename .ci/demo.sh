#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job on real input: a file goes from one process to another through a lane in POSIX
# shared memory; both sides are hashed, and what is left behind is looked for.
# usage: demo.sh SLIPRING [FILE|DIR]
set -u

slipring=$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd -P)/${1##*/}
input=${2:-}
smallest=50000000  # bytes that a default directory must have

die() {
  printf 'demo: %s\n' "$1" >&2
  shift
  for line; do printf '      %s\n' "$line" >&2; done
  exit 1
}

[ -x "$slipring" ] || die "$slipring is not there" 'build it: ./dev build'
temp=$(mktemp -d) || exit 1
receiver='' sender=''
clean_up() {
  # Only processes started here, each by its number.
  [ -z "$sender" ] || kill "$sender" 2>/dev/null
  [ -z "$receiver" ] || kill "$receiver" 2>/dev/null
  rm -rf "$temp"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- what is sent -----------------------------------------------------------------------------

default_directory() {
  for dir in /usr/include /usr/share /usr/lib /usr; do
    [ -d "$dir" ] || continue
    size=$(du -sk "$dir" 2>/dev/null | cut -f1)
    [ "${size:-0}" -ge $((smallest / 1024)) ] || continue
    printf '%s\n' "$dir"
    return
  done
}

# A directory is packed first, so that the speed shown is not the speed of tar.
pack() {  # DIR
  need=$(($(du -sk "$1" 2>/dev/null | cut -f1) * 2))
  room=$(df -Pk "$temp" | awk 'NR == 2 { print $4 }')
  [ "$room" -gt "$need" ] || die "$temp has $room KiB of room, $need are needed (two copies of $1)" \
    'give another place: TMPDIR=/var/tmp ./dev demo'
  printf 'packing %s\n' "$1"
  # Files that we may not read, or that change meanwhile, are 1; the archive is whole then, too.
  tar -cf "$temp/in" -C "$1" . 2>"$temp/tar.err"
  status=$?
  [ "$status" -le 1 ] || [ -s "$temp/in" ] || die "tar could not pack $1" "$(tail -n 1 "$temp/tar.err")"
}

if [ -z "$input" ]; then
  input=$(default_directory)
  [ -n "$input" ] || die 'no directory with 50 MB to show' 'name one: ./dev demo DIR'
fi
[ -e "$input" ] || die "$input: no such file or directory" 'give a file, a directory, or nothing'
[ -r "$input" ] || die "$input cannot be read" 'check its permissions'
if [ -d "$input" ]; then
  pack "$input"
  file=$temp/in
else
  file=$input
fi

# --- what is left behind ----------------------------------------------------------------------

name=demo.$$
: "${SLIPRING_DIR:=$temp/runtime}"  # the runtime directory: ours alone, so that all in it counts
export SLIPRING_DIR
mkdir -p "$SLIPRING_DIR"

objects() {
  for path in /dev/shm/* /dev/shm/.[!.]*; do
    [ -e "$path" ] && printf 'shm %s\n' "${path##*/}"
  done
  ipcs -m 2>/dev/null | awk '$2 ~ /^[0-9]+$/ { print "sysv-shm", $2 }'
  ipcs -s 2>/dev/null | awk '$2 ~ /^[0-9]+$/ { print "sysv-sem", $2 }'
  find "$SLIPRING_DIR" -mindepth 1 2>/dev/null | sed 's/^/file /'
}
# Is ID of a SysV segment, or semaphore set, that one of our two processes made or used last?
our_segment() {
  ipcs -m -p 2>/dev/null | awk -v id="$1" -v a="$sender_pid" -v b="$receiver_pid" \
    '$1 == id && ($3 == a || $3 == b || $4 == a || $4 == b) { found = 1 } END { exit !found }'
}
our_semaphores() {
  ipcs -s -i "$1" 2>/dev/null | awk -v a="$sender_pid" -v b="$receiver_pid" \
    'NF == 5 && ($5 == a || $5 == b) { found = 1 } END { exit !found }'
}
left_behind() {
  objects >"$temp/after"
  grep -Fvx -f "$temp/before" "$temp/after" | while read -r kind object; do
    case $kind in
      shm)
        case $object in
          *"$name"* | *slipring*) printf '%s ' "/dev/shm/$object" ;;
        esac ;;
      sysv-shm) our_segment "$object" && printf '%s ' "SysV segment $object" ;;
      sysv-sem) our_semaphores "$object" && printf '%s ' "SysV semaphores $object" ;;
      *) printf '%s ' "$kind $object" ;;
    esac
  done
}

# --- the transfer -----------------------------------------------------------------------------

printf ' \n' >"$temp/before"  # grep -f wants a line
objects >>"$temp/before"
"$slipring" recv "$name" --progress >"$temp/out" &
receiver=$! receiver_pid=$!
"$slipring" send "$name" "$file" --json >"$temp/send.out" 2>"$temp/send.err" &
sender=$! sender_pid=$!
wait "$sender"
send_status=$? sender=''
if [ "$send_status" != 0 ]; then
  # Without a sender the receiver may wait for ever: it is given a moment to end on its own.
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$receiver" 2>/dev/null || break
    sleep 0.2
  done
  kill "$receiver" 2>/dev/null
fi
wait "$receiver"
recv_status=$? receiver=''

in_hash=$(sha256sum <"$file" | cut -d' ' -f1)
out_hash=$(sha256sum <"$temp/out" | cut -d' ' -f1)
left=$(left_behind)

# --- the verdict ------------------------------------------------------------------------------

[ "$send_status" = 0 ] || {
  grep -v '^{' "$temp/send.err" >&2
  die "send ended with $send_status, recv with $recv_status" "left behind: ${left:-nothing}"
}
python3 - "$temp/send.err" "$temp/send.out" "$in_hash" "$out_hash" "$recv_status" "$left" "$file" <<'PY'
import json
import os
import sys

errors, output, in_hash, out_hash, recv_status, left, file = sys.argv[1:]
told = None
for path in (errors, output):
    for line in open(path, errors="replace"):
        if line.lstrip().startswith('{"slipring"'):
            told = json.loads(line)["slipring"]
if told is None:
    sys.exit("demo: send --json told nothing of what it sent")
size, records, seconds = told["bytes"], told["records"], told["seconds"]
speed = size / seconds / 1e9 if seconds > 0 else 0.0


def spaced(number):
    return f"{number:,}".replace(",", " ")


same = in_hash == out_hash
print(f"demo: {spaced(size)} bytes, {spaced(records)} records, {seconds:.2f} s, "
      f"{speed:.{1 if speed >= 1 else 2}f} GB/s, sha256 {'match' if same else 'DIFFERS'}, "
      f"{told['kind']}, left behind: {left.strip() or 'nothing'}")
honest = size == os.path.getsize(file)
if not honest:
    print(f"demo: send says {size} bytes, the file has {os.path.getsize(file)}", file=sys.stderr)
if recv_status != "0":
    print(f"demo: recv ended with {recv_status}", file=sys.stderr)
sys.exit(0 if same and honest and recv_status == "0" and not left.strip() else 1)
PY
