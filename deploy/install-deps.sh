#!/bin/sh
# Sees to it that what `make demo` or `make test` need is on this machine: as
# root on Debian or Ubuntu it installs what is missing, and otherwise says what
# to install. No service is started.
#
#   deploy/install-deps.sh demo | test
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-}
case $purpose in
demo | test) ;;
*)
	echo "usage: $0 demo | test" >&2
	exit 2
	;;
esac

have() { command -v "$1" >/dev/null 2>&1; }

have_go() { have go && go list -m >/dev/null 2>&1; } # fails where Go is older than go.mod wants

# The places are those that dmarcd itself looks into, see postgres/find.go.
have_postgresql() {
	for dir in $(printf '%s' "$PATH" | tr ':' ' ') /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
		/usr/lib/postgresql[0-9]*/bin /usr/lib64/postgresql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin \
		/usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
		if [ ! -x "$dir/initdb" ] || [ ! -x "$dir/postgres" ]; then continue; fi
		major=$("$dir/postgres" --version 2>/dev/null | sed -n 's/^postgres ([^)]*) \([0-9][0-9]*\).*/\1/p')
		[ "${major:-0}" -ge 14 ] && return 0
	done
	return 1
}

have_dovecot() {
	have dovecot || [ -x /usr/sbin/dovecot ] || return 1
	for program in /usr/lib/dovecot/imap /usr/libexec/dovecot/imap /opt/homebrew/opt/dovecot/libexec/dovecot/imap; do
		[ -x "$program" ] && return 0
	done
	return 1
}

# The names are those that web/internal/browser looks for.
have_chromium() {
	have chromium-headless-shell || have headless-shell || have chromium || have chromium-browser || have google-chrome || have google-chrome-stable ||
		[ -d "/Applications/Google Chrome.app" ] || [ -d /Applications/Chromium.app ]
}

have_fonts() {
	[ -d /System/Library/Fonts ] || find -L /usr/share/fonts /usr/local/share/fonts "${HOME:-/}/.fonts" \
		\( -name '*.ttf' -o -name '*.otf' \) 2>/dev/null | grep -q .
}

have_dns() {
	for program in knotd knotc unbound; do
		have $program || [ -x /usr/sbin/$program ] || return 1
	done
}

have_c() { have cc || have gcc || have clang; } # the race detector needs it

missing() {
	have_postgresql || echo postgresql
	[ "$purpose" = test ] || return 0
	have_dovecot || echo dovecot
	have_chromium || echo chromium
	have_fonts || echo fonts
	have_dns || echo dns
	have_c || echo c
	have curl || echo curl # examples of the documentation use it
	for program in zsh fish mandoc jq python3 git; do # completion, the manual page, answers of the API and examples are read by them
		have $program || echo $program
	done
}

# packages names what is to be installed on a system, for each word of missing.
packages() {
	system=$1
	shift
	for what; do
		case $system:$what in
		debian:postgresql) echo postgresql ;;
		debian:dovecot) echo dovecot-imapd ;;
		debian:chromium)
			case $id in
			debian) echo chromium-headless-shell ;; # Chromium without windows: less to fetch, and sooner there
			ubuntu) echo chromium-browser ;;
			*) echo chromium ;;
			esac
			;;
		debian:fonts) echo fonts-dejavu-core ;;
		alpine:dns) echo knot knot-utils unbound ;;
		*:dns) echo knot unbound ;;
		debian:c) echo gcc libc6-dev ;;
		fedora:postgresql) echo postgresql-server ;;
		fedora:fonts) echo dejavu-sans-fonts ;;
		alpine:fonts) echo font-dejavu ;;
		alpine:c) echo gcc musl-dev ;;
		arch:fonts) echo ttf-dejavu ;;
		arch:python3) echo python ;;
		suse:postgresql) echo postgresql-server ;;
		suse:fonts) echo dejavu-fonts ;;
		macos:postgresql) echo postgresql@17 ;;
		*:c) echo gcc ;;
		*) echo "$what" ;;
		esac
	done
}

# command_for prints the command that installs packages on a system.
command_for() {
	system=$1
	shift
	case $system in
	debian) echo "apt-get update && apt-get install --no-install-recommends $*" ;;
	fedora) echo "dnf install $*" ;;
	alpine) echo "apk add $*" ;;
	arch) echo "pacman -S --needed $*" ;;
	suse) echo "zypper install $*" ;;
	macos) echo "brew install $*" ;;
	*) echo "install, by whatever means your system has: $*" ;;
	esac
}

# shellcheck disable=SC1091 # a file of the system
id=$( (. /etc/os-release && echo "${ID:-}") 2>/dev/null) || id=
# shellcheck disable=SC1091
like=$( (. /etc/os-release && echo "${ID_LIKE:-}") 2>/dev/null) || like=
system=other
[ "$(uname -s)" = Darwin ] && system=macos
for name in $id $like; do
	[ $system = other ] || break
	case $name in
	debian | ubuntu) system=debian ;;
	fedora | rhel | centos) system=fedora ;;
	alpine) system=alpine ;;
	arch) system=arch ;;
	suse | opensuse) system=suse ;;
	esac
done

if ! have_go; then
	want=$(sed -n 's/^go //p' go.mod)
	if have go; then
		echo "Go $want or newer is needed, here is $(go env GOVERSION 2>/dev/null || go version). Get it from https://go.dev/dl/" >&2
		go list -m 2>&1 >/dev/null | head -n 3 >&2 || true
	else
		echo "Go $want or newer is needed, and there is none in PATH. Get it from https://go.dev/dl/" >&2
	fi
	exit 1
fi

# shellcheck disable=SC2046 # words are wanted
set -- $(missing)
[ $# -gt 0 ] || exit 0
# shellcheck disable=SC2046
set -- $(packages $system "$@")

if [ $system != debian ] || [ "$(id -u)" -ne 0 ]; then
	{
		echo "make $purpose needs what is not on this machine. Install it${id:+ (as root)} with:"
		echo
		echo "    $(command_for $system "$@")"
		echo
	} >&2
	exit 1
fi

echo "Installing $* ..." >&2
# Packages start the services they bring; while this file says 101, they do not.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
apt-get install -q -y --no-install-recommends "$@" >&2

# shellcheck disable=SC2046
set -- $(missing)
if [ $# -gt 0 ]; then
	echo "The packages are installed, but these are still not found: $*" >&2
	exit 1
fi
