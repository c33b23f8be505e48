#!/bin/sh
# What happens on each node: node.sh ACTION ROOT STAMP JOB [KEEP | ARCHIVE ORIGIN NAME FROM]. Prints a line for a person
# if it fails; the status says which way. One process per node runs it; it uses programs of the node alone.
#   prepare  make the private folder ROOT, mark STAMP as used by JOB; status 0 if the copy is there, 10 if not
#   unpack   unpack ARCHIVE, or what sbcast left where FROM is "delivered"; ORIGIN is the original environment, NAME
#            that of a plain file
#   release  take the mark of JOB away; remove the copy unless KEEP is "keep" or another job uses it
set -u
umask 077
action=$1 root=$2 stamp=$3 job=$4
copy=$root/$stamp users=$root/$stamp.users delivered=$root/$stamp.$job.in
fail() {
  echo "$(uname -n): $*" >&2
  exit 1
}
[ "$action" = release ] || mkdir -p "$root" 2>/dev/null || fail "$root cannot be made"
[ "$action" != release ] || [ -d "$root" ] || exit 0
# Another user could have made the folder first: its content would run as this user.
case "$([ -L "$root" ] || stat -c '%u %a' "$root")" in
"$(id -u) 700" | "$(id -u) 2700") ;;
*) fail "$root is not a private folder of yours" ;;
esac
exec 9>"$root/lock" || fail "$root cannot be written"
flock 9 || fail "$root cannot be locked"

prepare() {
  mkdir -p "$users" && : >"$users/$job" || fail "$root cannot be written"
  find "$users" -type f -mtime +30 -delete # marks of jobs that were killed
  [ -e "$copy/ready" ] || exit 10
}

relocate() { # the environment below $1 was made in $2; it will be $3
  sed -i "s|@ENVIRONMENT@|$4|" "$1/pyvenv.cfg" 2>/dev/null
  grep -lI "^#!$2/bin/python" "$1"/bin/* 2>/dev/null | while IFS= read -r script; do
    sed -i "1s|^#!$2/bin/|#!$3/bin/|" "$script"
  done
  python=$(find "$1/bin" -name 'python3' | head -n 1)
  [ -n "$python" ] || fail "the archive has no Python"
  [ -x "$python" ] && "$python" -I -S -c pass 2>/dev/null || fail "$1 cannot run programs (mounted noexec?)"
}

unpack() {
  archive=$5 origin=$6 name=$7 from=$8
  [ "$from" != delivered ] || archive=$delivered # a broadcast that failed may have left a part
  if [ ! -e "$copy/ready" ]; then
    rm -rf "$copy"
    mkdir "$copy" || fail "$root cannot be written"
    if [ -n "$name" ]; then
      mkdir "$copy/data" && said=$(cp "$archive" "$copy/data/$name" 2>&1)
    else
      said=$(tar -xf "$archive" -C "$copy" --no-same-owner 2>&1)
    fi || {
      rm -rf "$copy" "$delivered"
      fail "the copy failed: $(echo "$said" | tail -n 1)"
    }
    if [ -d "$copy/env" ]; then
      (relocate "$copy/env" "$origin" "$copy/env" "$copy") || {
        rm -rf "$copy" "$delivered"
        exit 1
      }
    fi
    : >"$copy/ready"
  fi
  rm -f "$delivered"
}

release() {
  rm -f "$users/$job" "$delivered"
  rmdir "$users" 2>/dev/null
  [ "$5" = keep ] || [ -d "$users" ] || rm -rf "$copy"
}

"$action" "$@"
