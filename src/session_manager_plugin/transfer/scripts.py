"""The lines of ``sh`` that run on the target: for dash, bash and busybox ash, with nothing installed there.

They are ASCII, because a session's parameters are text. They print lines of ASCII, because the agent alters other bytes
(see ``docs/copy.md``). A printed line that begins with a colon controls the client; every other line is data.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from session_manager_plugin.transfer.names import escape_name

BLOCK_SIZE = 65536
"""Bytes of the blocks that ``dd`` reads. Each part of a file begins at a multiple of it."""
MIN_PARTED_SIZE = 8 * 1024 * 1024
"""Bytes of the smallest file that is copied in parts, over several sessions."""


def part_blocks(size: int, parts: int) -> list[tuple[int, int]]:
    """Return the first block of each part of a file of ``size`` bytes, and the number of its blocks.

    The script of a download computes the first part in the same way.
    """
    blocks = -(-size // BLOCK_SIZE)
    each = blocks // parts
    firsts = [each * part for part in range(parts)]
    return [(first, each) for first in firsts[:-1]] + [(firsts[-1], blocks - firsts[-1])]


_COMMON = r"""LC_ALL=C; export LC_ALL; mask=$(umask); umask 077
has() { command -v "$1" >/dev/null 2>&1; }
need() { x_=$1; shift
for t_ do if ! has "$t_"; then echo "$x_ the target has no $t_, which copies need"; exit 1; fi; done; }
name() { n_=$(printf '%b.' "${1#=}"); n_=${n_%.}; }
plain() { printf '%s' "$1" | tr '\n' ' '; }
reason() { while :; do case $1 in *': '*) ;; *) break;; esac
r_=${1%%"
"*}; case $r_ in *': '*) printf '%s' "${r_##*: }"; return;; esac
set -- "${1#*"
"}"; done; plain "$1"; }
if has sha256sum; then algorithm=sha256; sum() { sha256sum; }
elif has shasum; then algorithm=sha256; sum() { shasum -a 256; }
elif has openssl; then algorithm=sha256; sum() { openssl dgst -sha256 -r; }
elif has sha512sum; then algorithm=sha512; sum() { sha512sum; }
elif has sha1sum; then algorithm=sha1; sum() { sha1sum; }
elif has md5sum; then algorithm=md5; sum() { md5sum; }
else algorithm=none; sum() { echo -; }; fi
digest() { set -- $(sum); echo "$1"; }
if [ -w /dev/fd/1 ] && has tee; then piped=$algorithm; copy() { tee /dev/fd/5; }
else piped=none; copy() { cat; }; fi
zip=; if has gzip; then zip=1; fi
if stat -L -c '%a %Y %s' / >/dev/null 2>&1; then facts() { stat -L -c '%a %Y %s' "$1"; }
else facts() { if [ -d "$1" ]; then echo '- - 0'; else echo "- - $(($(wc -c <"$1" 2>/dev/null)))"; fi; }; fi
cd ~ 2>/dev/null || cd /
local_path() { case $1 in ''|.|'~') p_=.;; '~/'*) p_=./${1#'~/'};; /*) p_=$1;; *) p_=./$1;; esac
while [ "$p_" != / ] && [ "${p_%/}" != "$p_" ]; do p_=${p_%/}; done; }
"""

# tar follows a link to a directory above it without end, so ``loops`` looks for such links first. ``upward`` tests the
# link $2 in the directory $3: whether its target is that directory, one above it, or one of or above those in $1, which
# are the directories of the links that were followed to get there. ``looped`` tests links, and those in their targets.
_DOWNLOAD = r"""exec 3>&1
need ':x =' cat dd head tail tr wc
if has base64; then encoding=base64; encode() { base64; }
elif has od; then encoding=hex; encode() { od -An -v -tx1; }
else echo ':x = the target has neither base64 nor od, which copies need'; exit 1; fi
shown() { printf '=%s' "$(printf '%s' "$1" | encode | tr -d ' \n')"; }
problem() { case $1 in .) o_=$typed;; *) o_=${1#./}; case $typed in .) o_=./$o_;; '~'|'~/'*) o_='~'/$o_;; esac;; esac
printf ':x %s %s\n' "$(shown "${o_:-.}")" "$2"; }
tar=; case $flags in *t*) if has tar; then tar=1; fi;; esac
echo ":h $encoding $algorithm ${zip:-0} ${tar:-0}"
n=0
entry() { if [ $n -lt $skip ]; then n=$((n + 1)); return 1; fi
start=0; if [ $n -eq $skip ]; then start=$offset; fi; n=$((n + 1)); }
file() { if ! [ -f "$1" ]; then problem "$1" 'is not a regular file'; return; fi
if ! [ -r "$1" ]; then problem "$1" 'Permission denied'; return; fi
entry || return 0
if ! f_=$(facts "$1"); then n=$((n - 1)); problem "$1" 'No such file or directory'; return; fi
s_=${f_##* }; if [ "$size" ] && [ $n -eq $((skip + 1)) ]; then s_=$size; fi
z_=0; pack() { encode >&3; }
b_=$((start / 65536)); r_=$((start % 65536))
if [ "$blocks" ]; then k_=$blocks
elif [ $parts -gt 1 ] && [ $s_ -ge MIN_PARTED_SIZE ]; then k_=$(((s_ + 65535) / 65536 / parts - b_))
else k_=$(((s_ + 65535) / 65536 - b_)); fi
if [ "$zip" ] && [ $s_ -gt 512 ]; then y_=0
if [ $s_ -gt 65536 ]; then y_=$(dd bs=65536 skip=$b_ count=1 <"$1" 2>/dev/null | gzip -1 | wc -c); fi
if [ $y_ -lt 49152 ]; then z_=1; pack() { gzip -1 | encode >&3; }; fi; fi
echo ":f $((n - 1)) $start $z_ ${f_% *} $s_ $(shown "$2")"
if [ $s_ = 0 ]; then
o_=$( exec 8>&1; { { cat "$1" || echo failed >&8; } 2>&8 | copy | tail -c +$((start + 1)) | encode >&3
} 5>&1 >/dev/null | tally )
elif [ $r_ = 0 ]; then o_=$( { extent "$1" | pack; } 8>&1 )
else o_=$( { extent "$1" | tail -c +$((r_ + 1)) | pack; } 8>&1 ); fi
case "$o_
" in *'failed
'*) echo ":b $(reason "$o_")"; if [ "$blocks" ]; then exit; fi; return;; esac
if [ "$blocks" ]; then echo ':e none -'; echo ":q $n"; exit; fi
if [ $s_ = 0 ] && [ $piped != none ]; then d_=${o_##*
}; elif [ $s_ = 0 ]; then d_=$(digest <"$1")
else d_=$(head -c $s_ <"$1" | digest); fi
if [ "$d_" ]; then echo ":e $algorithm $d_"; else echo ":b its $algorithm is missing"; fi; }
extent() { if [ $start = 0 ] && [ $s_ -le 65536 ]; then read_blocks "$1" $s_ 1
else read_blocks "$1" 65536 $k_ | { head -c $((s_ - b_ * 65536)); cat >/dev/null; }; fi; }
read_blocks() { { dd bs=$2 skip=$b_ count=$3 <"$1" || echo failed >&8; } 2>&8; }
tree() { entry || return 0
z_=0; squeeze() { cat; }
if [ "$zip" ]; then
s_=$(tar -chf - -C "$1" "./$2" 2>/dev/null | head -c 262144 | gzip -1 | wc -c)
if [ $s_ -lt 196608 ]; then z_=1; squeeze() { gzip -1; }; fi; fi
echo ":t $((n - 1)) $start $z_ $(facts "$1/$2") $(shown "$3")"
o_=$( exec 8>&1; { tar -chf - -C "$1" "./$2" 2>&8 | copy |
if [ $start = 0 ]; then squeeze; else tail -c +$((start + 1)) | squeeze; fi | encode >&3; } 5>&1 >/dev/null | tally )
echo ":e $piped ${o_##*
}"
case $o_ in *'
'*) printf '%s\n' "${o_%
*}" | while IFS= read -r l_; do printf ':w %s\n' "$l_"; done;; esac; }
if [ $piped = none ]; then tally() { cat >/dev/null; echo -; }; else tally() { digest; }; fi
upward='t_=$(cd -P "$2" 2>/dev/null && pwd -P && echo .); t_=${t_%??}
s_=$(cd -P "$3" 2>/dev/null && pwd -P && echo .); s_=${s_%??}; s_=$1//${s_#/}/
case $t_ in "") false;; /) true;; *) case $s_ in *"//${t_#/}/"*) true;; *) false;; esac;; esac'
is_upward() { eval "$upward"; }
looped='a_=$1; shift; is_upward() { eval "$upward"; }
for l_; do if [ -d "$l_" ]; then
if is_upward "$a_" "$l_" "${l_%/*}"; then echo; exit; fi
b_="{""}"; find "$t_" -type l -exec sh -c "$looped" sh "$s_" $b_ + 2>/dev/null
fi; done'
loops() { if ! has find; then return 0; fi
[ "$(export upward looped; find "$1/" -type l -exec sh -c "$looped" sh '' {} + 2>/dev/null | wc -l)" -gt 0 ]; }
walk() { if ! [ -r "$1" ] || ! [ -x "$1" ]; then problem "$1" 'Permission denied'; return; fi
if entry; then echo ":d $((n - 1)) 0 0 $(facts "$1") $(shown "$2")"; fi
for c_ in "$1"/* "$1"/.[!.]* "$1"/..?*; do
if [ -d "$c_" ]; then
if ! [ -L "$c_" ]; then walk "$c_" "$2/${c_##*/}" "$3"
elif is_upward "$3" "$c_" "$1"; then problem "$c_" 'is a link to a directory above it'
else walk "$c_" "$2/${c_##*/}" "$s_"; fi
elif [ -e "$c_" ]; then file "$c_" "$2/${c_##*/}"
elif [ -L "$c_" ]; then problem "$c_" 'is a link to nothing'; fi; done; }
one() { if [ -d "$1" ]; then
case $flags in *r*) ;; *) problem "$1" 'is a directory (-r copies directories)'; return;; esac
if ! [ -r "$1" ] || ! [ -x "$1" ]; then problem "$1" 'Permission denied'; return; fi
case $1 in .|..|/|*/.|*/..) set -- "$1" "$1" .;;
*/*) set -- "$1" "${1%/*}" "${1##*/}";; esac
s_=$3; if [ "$s_" = . ]; then s_=; fi
if [ "$tar" ] && ! loops "$1"; then tree "${2:-/}" "$3" "$s_"; else walk "$1" "$s_" ''; fi
elif [ -e "$1" ]; then file "$1" "${1##*/}"
elif [ -L "$1" ]; then problem "$1" 'is a link to nothing'
else problem "$1" 'No such file or directory'; fi; }
for a_ in $paths; do name "$a_"; typed=$n_; local_path "$n_"
if [ -e "$p_" ] || [ -L "$p_" ]; then one "$p_"; continue; fi
i_=$IFS; IFS=; case $p_ in *[*?[]*) set -- $p_;; *) set -- "$p_";; esac; IFS=$i_
for g_ do one "$g_"; done; done
echo ":q $n"
"""

_UPLOAD = r"""exec 3>&1
need :x cat chmod dd mkdir mv rm touch tr
made=; new=; lost=; trap 'trap "" HUP INT TERM; if [ "$made" ]; then rm -rf "$made" || rm -rf "$made"; fi' EXIT
trap 'trap "" HUP INT TERM; exit 1' HUP INT TERM
fail() { printf ':x %s\n' "$(plain "$1")" >&3; exit 1; }
fail_because() { fail "${f_#./}: $(reason "$1")"; }
refuse() { printf ':n %s\n' "$(plain "$1")" >&3; bad=1; }
refuse_because() { refuse "${f_#./}: $(reason "$1")"; }
answer() { if [ "$made" ] && [ "$bad" ]; then rm -rf "$made"; fi; made=
if [ "$bad" ]; then echo :f >&3; else echo :o >&3; fi; bad=; }
if [ "$(printf abcd | dd bs=2 count=1 iflag=fullblock 2>/dev/null)" = ab ]; then exact=1
take() { dd bs="$1" count=1 iflag=fullblock; }
else exact=0; take() { head -c "$1"; }; fi
name "$destination"; d_=$n_; local_path "$d_"; destination=$p_
kind=none
if [ -d "$p_" ]; then kind=directory; elif [ -e "$p_" ]; then kind=file
elif ! [ -d "${p_%/*}/" ]; then kind=missing; fi
if has tar; then tar=1; else tar=0; fi
echo ":h $algorithm $piped $mask ${zip:-0} $tar $exact $kind"
frames() { while IFS=' ' read -r k_ a_; do case $k_ in
r) m_=$(take "$a_" 2>&1 >&6) || { printf '%s\n' "$m_" >&7; return 1; };;
z) m_=$(take "$a_" 2>/dev/null | gzip -dc 2>&1 >&6) || { printf '%s\n' "$m_" >&7; return 1; };;
e) return 0;;
*) return 1;; esac; echo :k >&3; done; return 1; }
part() { dd bs=65536 seek=$1 count=0 conv=notrunc </dev/null 2>/dev/null >&6 && frames; }
at() { case $1 in =) f_=$destination;; *) name "$1"; f_=$destination/$n_;; esac
case $f_ in /*|./*) ;; *) f_=./$f_;; esac; }
place() { at "$1"
if [ -L "$f_" ] && has readlink; then l_=$(readlink -f "$f_") && f_=$l_; fi
made=${f_%/*}/$2; }
is_lost() { [ "$lost" ] && case $f_/ in "$lost"*) bad=1;; *) return 1;; esac; }
settle() { m_=$(chmod "$1" "$3" 2>&1) || { refuse_because "$m_"; return 1; }
case $2 in -) ;; *) m_=$(touch -d "@$2" "$3" 2>&1) || { refuse_because "$m_"; return 1; };; esac; }
is_damaged() { case $1 in !) bad=1; return;; -|"$2") return 1;; esac
if [ $algorithm = none ]; then return 1; fi; refuse "${f_#./}: damaged on the way, its $algorithm differs"; }
while IFS=' ' read -r k_ file mode time partial hidden; do case $k_ in
f) place "$file" "$partial"; w_=$made; made=
if is_lost; then :
elif [ -d "$f_" ]; then refuse "${f_#./}: Is a directory"
else if [ -e "$f_" ] && ! [ -f "$f_" ]; then w_=$f_; else made=$w_; fi
m_=$( { : >"$w_"; } 2>&1 ) || { made=; refuse_because "$m_"; }; fi
if [ "$bad" ]; then w_=/dev/null; fi
m_=$( frames 7>&1 6>"$w_" ) || fail_because "$m_"
IFS=' ' read -r k_ want || exit 1
if [ "$made" ] && ! [ -e "$w_" ]; then made=; refuse "${f_#./}: was removed while it was copied"; fi
if [ "$made" ] && ! is_damaged "$want" "$(digest <"$w_")"; then
if [ "$time" = - ] && [ -e "$f_" ]; then o_=$(facts "$f_"); o_=${o_%% *}; if [ "$o_" != - ]; then mode=$o_; fi; fi
if settle "$mode" "$time" "$w_"; then m_=$(mv -f "$w_" "$f_" 2>&1) || refuse_because "$m_"; fi; fi
answer;;
p) place "$file" "$partial"; w_=$made; u_=$w_; made=
if [ -w /proc/self/fd/1 ]; then u_=/proc/self/fd/5; fi
m_=$( { part $mode 7>&1 6<>"$u_"; } 2>&1 5<"$w_" ) || fail_because "$m_"
answer;;
d) at "$file"; if ! is_lost && ! [ -d "$f_" ]; then
if m_=$(mkdir "$f_" 2>&1); then new="$new $file "; else refuse_because "$m_"; lost=$f_/; fi; fi
answer;;
m) at "$file"; if ! is_lost; then case "$time$new" in -*" $file "*|[!-]*) settle "$mode" "$time" "$f_";; esac; fi
answer;;
t) place "$file" "$partial"
if [ -d "$f_" ] && [ -w "$f_" ]; then made=$f_/$partial; fi
if [ -e "$f_" ] && ! [ -d "$f_" ]; then made=; refuse "${f_#./}: Not a directory"
else m_=$(mkdir "$made" 2>&1) || { made=; refuse_because "$m_"; }; fi
if [ "$bad" ]; then m_=$( frames 7>&1 6>/dev/null ) || fail_because "$m_"
else o_=$( exec 8>&1; { { frames 6>&1 7>&8 || echo broken >&8; } | copy |
{ tar -xpof - -C "$made" 2>&8 || echo failed >&8; cat >/dev/null; }; } 5>&1 >/dev/null | tally ); fi
IFS=' ' read -r k_ want || exit 1
if [ "$made" ]; then
case "
$o_" in *'
broken
'*) fail_because "$o_";; *'
failed
'*) m_=$(dd bs=65536 count=1 2>&1 </dev/zero >"$made/.smp") || fail_because "$m_"
refuse_because "$o_";; esac
if [ "$bad" ] || { [ $piped != none ] && is_damaged "$want" "${o_##*
}"; }; then :
elif [ -e "$f_" ]; then merge "$made" "$f_" || bad=1; rm -rf "$made"
case $time in -) ;; *) settle "$mode" "$time" "$f_";; esac
elif settle "$mode" "$time" "$made"; then m_=$(mv "$made" "$f_" 2>&1) || refuse_because "$m_"; fi; fi
answer;;
q) echo :q; exit 0;;
*) exit 1;; esac; done
exit 1
"""
_UPLOAD_FUNCTIONS = r"""bad=
if [ $piped = none ]; then tally() { cat >/dev/null; echo -; }; else tally() { digest; }; fi
merge() ( e_=0; a_=-; if [ "$time" != - ]; then a_=$(facts "$1"); fi
not_moved() { refuse "${1#./}: $(reason "$2")"; e_=1; }
v_=$2/; if [ "$(stat -c %d "$1" 2>/dev/null)" != "$(stat -c %d "$2" 2>/dev/null)" ]; then v_=$2/$partial; fi
move() { mv -f "$1" "$v_" && { [ "$v_" = "$2" ] || mv -f "$v_" "$2${1##*/}"; } ||
{ case $v_ in "$2") ;; *) rm -rf "$v_";; esac
false; }; }
for c_ in "$1"/* "$1"/.[!.]* "$1"/..?*; do
if [ -d "$c_" ] && ! [ -L "$c_" ] && [ -d "$2/${c_##*/}" ]; then merge "$c_" "$2/${c_##*/}" || e_=1
elif [ -e "$c_" ] || [ -L "$c_" ]; then m_=$(move "$c_" "$2/" 2>&1) || not_moved "$2/${c_##*/}" "$m_"; fi; done
case $a_ in -*) ;; *) t_=${a_#* }
m_=$( { chmod "${a_%% *}" "$2" && touch -d "@${t_%% *}" "$2"; } 2>&1 ) || not_moved "$2" "$m_";; esac
exit $e_ )
"""


def download_script(
    paths: Sequence[bytes],
    *,
    recursive: bool,
    tar: bool,
    skip: int = 0,
    offset: int = 0,
    size: int | None = None,
    parts: int = 1,
    blocks: int | None = None,
) -> str:
    """Return the script that sends ``paths`` without the first ``skip`` entries and ``offset`` bytes of the next.

    ``size`` is that of the next entry when its first byte was sent: of a file that has grown since, no more is sent.
    ``tar``: a directory is sent as one archive where the target has tar. Of a file of at least ``MIN_PARTED_SIZE``
    bytes only the first of ``parts`` is sent. With ``blocks``, only that many blocks of the next entry are sent,
    counted from the one that holds ``offset``, without a digest.
    """
    flags = ("r" if recursive else "") + ("t" if tar else "")
    names = " ".join(escape_name(path) for path in paths)
    extent = f"offset={offset} size={_text(size)} parts={parts} blocks={_text(blocks)}"
    settings = f"flags={flags} skip={skip} {extent} paths={shlex.quote(names)}"
    return f"{_COMMON}{settings}\n{_DOWNLOAD.replace('MIN_PARTED_SIZE', str(MIN_PARTED_SIZE))}"


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def upload_script(destination: bytes) -> str:
    """Return the script that receives files below ``destination``; ``upload_plan`` describes its input."""
    return f"{_COMMON}destination={shlex.quote(escape_name(destination))}\n{_UPLOAD_FUNCTIONS}{_UPLOAD}"


def typed_line(size: int, marker: str) -> bytes:
    """Return the line to type in a shell so that it reads and runs a script of ``size`` bytes.

    Send the script once ``marker`` is received on a line of its own: from then on the terminal is raw. The line is
    short, because a terminal accepts lines of 4,095 bytes at most. It holds the marker in two pieces, so that its echo
    does not contain the marker. Without HISTFILE bash writes no history file. The script reads a pipe, because bash,
    which is ``sh`` on some systems, reads more than a line at a time from a terminal; dd fills the pipe, because the
    ``cat`` of busybox waits for 64 KiB. When the session's first process is killed, the script's shell receives SIGHUP,
    removes incomplete files, and ends.
    """
    half = len(marker) // 2
    line = (
        " unset HISTFILE; exec sh -c 'command -v dd >/dev/null && stty raw -echo || exit; "
        f'printf "\\n%s%s\\n" {marker[:half]} {marker[half:]}; '
        f'c=$(dd bs=1 count={size} 2>/dev/null; echo .); dd bs=65536 2>/dev/null | {{ sh -c "${{c%.}}"; kill 0; }}\'\r'
    )
    return line.encode()


def command_words(script: str) -> str:
    """Return the command of a session without a terminal: the agent splits it into words, as a shell would."""
    return shlex.join(["sh", "-c", script])
