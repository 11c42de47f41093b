#!/usr/bin/env bash
# Makes a machine on which nothing is installed, and follows the documentation there word for word: README.md from
# its first command on, then docs/install.md with the unit of systemd in its whole sandbox, then docs/backup.md: an
# upgrade from an older commit, backup, restore, and the move to a database of one's own.
#
# The machine is a Debian made by debootstrap in a folder, with a systemd of its own in namespaces of its own, on the
# network of this machine: port 8080 has to be free. Run it as root on Debian, with debootstrap, git, curl, jq and Go.
#
#   deploy/new-machine.sh [--older COMMIT] [--test COMMAND] [--keep FOLDER]
#
#   --older COMMIT   what is upgraded from; otherwise the last commit before the newest step of the schema
#   --test COMMAND   what is run in place of make test, which takes long
#   --keep FOLDER    where the machine is made, and left; otherwise a temporary folder
#
# Go is taken from this machine, in place of a download. Variables about proxies and modules are handed on.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
suite=bookworm
older='' test='make test' keep=''
while [ $# -gt 0 ]; do
	case $1 in
	--older) older=$2 && shift 2 ;;
	--test) test=$2 && shift 2 ;;
	--keep) keep=$2 && shift 2 ;;
	*) sed -n '2,/^set -/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
	esac
done
fail() {
	echo "new-machine: $*" >&2
	exit 1
}
say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }
[ "$(id -u)" -eq 0 ] || fail "only root can make a machine"
for program in debootstrap git curl jq go unshare nsenter; do
	command -v "$program" >/dev/null || fail "$program is not installed"
done
if (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; then fail "something listens on port 8080 already"; fi

# commands FILE HEADING prints the commands of a section, a block of them after another with an empty line between.
commands() {
	awk -v heading="$2" '
		/^#/ { here = ($0 == heading); next }
		here && /^    / { print substr($0, 5); last = 1; next }
		here && last { print ""; last = 0 }' "$repository/$1" | grep . -A1 | grep -v '^--$' || fail "$1 has no commands below \"$2\""
}
# block FILE HEADING PATTERN prints the block of a section that has a line like PATTERN.
block() {
	commands "$1" "$2" | awk -v RS= -v pattern="$3" '$0 ~ pattern { print; found = 1; exit } END { exit !found }' ||
		fail "$1 has no commands like \"$3\" below \"$2\""
}

top=${keep:-$(mktemp -d /tmp/new-machine.XXXXXX)}
mkdir -p "$top"
machine=$top/machine
init='' background=''
finish() {
	status=$?
	if [ -n "$init" ]; then
		if [ "$status" -ne 0 ]; then as root <<<'journalctl --no-pager --lines 40 --unit dmarcd' >&2 || true; fi
		kill -KILL "$init" 2>/dev/null || true # and with it all that runs in the machine
		wait 2>/dev/null || true
	fi
	if [ -z "$keep" ]; then rm -rf --one-file-system "$top"; fi
	if [ "$status" -eq 0 ]; then say "all of it works"; else echo "new-machine: FAILED with status $status after ${SECONDS}s" >&2; fi
}
trap finish EXIT
for signal in HUP INT TERM; do trap "echo 'new-machine: ended by SIG$signal' >&2; exit 1" $signal; done
trap 'echo "new-machine: line $LINENO: $BASH_COMMAND" >&2' ERR

say "a machine with nothing installed"
if [ ! -e "$machine/etc/debian_version" ]; then
	debootstrap --variant=minbase --include=systemd-sysv,dbus "$suite" "$machine" >"$top/debootstrap.log" 2>&1 || fail "$(tail -n 5 "$top/debootstrap.log")"
	# Later packages are asked for as here: updates, and the way out.
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/ubuntu.sources; do
		if [ -e "$file" ]; then
			rm -f "$machine/etc/apt/sources.list"
			install -m 644 "$file" "$machine$file"
		fi
	done
	apt-config dump | grep -iE '^Acquire::(http|https)::Proxy' >"$machine/etc/apt/apt.conf.d/90proxy" || true
fi
cp -L /etc/resolv.conf "$machine/etc/resolv.conf" 2>/dev/null || true
cat >"$machine/etc/hosts" <<-'END'
	127.0.0.1 localhost new-machine mail.example.com db.example.com dmarc.example.com
END
# Whom this machine trusts on the way to packages and modules is trusted there too.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
	install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$machine/usr/local/share/ca-certificates/as-outside.crt"
fi
# What would be fetched from elsewhere is taken from here.
rm -rf "$machine/srv/dmarcd.git" "$machine/srv/go"
git clone --quiet --bare --no-hardlinks "$repository" "$machine/srv/dmarcd.git"
head=$(git -C "$repository" rev-parse HEAD)
git -C "$machine/srv/dmarcd.git" update-ref refs/heads/new-machine "$head"
git -C "$machine/srv/dmarcd.git" symbolic-ref HEAD refs/heads/new-machine
printf '[safe]\n\tdirectory = *\n[url "/srv/dmarcd.git"]\n\tinsteadOf = https://github.com/dmarcd/dmarcd\n' >"$machine/etc/gitconfig"

# A machine that was kept starts nothing of the run before.
rm -f "$machine"/etc/systemd/system/dmarcd.service "$machine"/etc/systemd/system/*/dmarcd.service

# boot is run in namespaces of its own.
boot='
	set -e
	mount --make-rprivate /
	mount --bind "$1" "$1"
	cd "$1"
	mount -t proc proc proc
	mount -t sysfs -o ro sysfs sys
	mount -t tmpfs -o mode=755 tmpfs dev
	for device in null zero full random urandom tty; do
		touch dev/$device
		mount --bind /dev/$device dev/$device
	done
	mkdir dev/pts dev/shm
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	mount -t tmpfs -o mode=1777 tmpfs dev/shm
	mount -t tmpfs -o mode=755 tmpfs run
	if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
		mount -t cgroup2 cgroup2 sys/fs/cgroup
	else
		mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
		mkdir sys/fs/cgroup/systemd
		mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
	fi
	# Within chroot there are no namespaces of users, which the unit asks for, and its credentials are a mount that
	# it has to see.
	mkdir -p .outside
	pivot_root . .outside
	exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "umount -l /.outside; mount --make-rshared /; exec /lib/systemd/systemd --system --log-target=journal" </dev/null'
unshare --mount --pid --fork --uts --ipc --cgroup bash -c "$boot" boot "$machine" >"$top/boot.log" 2>&1 &
unshared=$!
for _ in $(seq 100); do
	init=$(ps -o pid= --ppid "$unshared" | tr -d ' ')
	[ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ] && break
	kill -0 "$unshared" 2>/dev/null || fail "systemd does not start: $(cat "$top/boot.log")"
	sleep 0.1
done

handed=()
while IFS='=' read -r name value; do
	case $name in
	http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | GOPROXY | GOSUMDB | GONOSUMDB | GONOSUMCHECK | GOFLAGS) handed+=("$name=$value") ;;
	esac
done < <(env; go env | sed -n "s/^\(GOPROXY\|GOSUMDB\|GONOSUMDB\|GOFLAGS\)='\(.*\)'$/\1=\2/p")

# as USER runs the script on standard input in the machine, each of its lines shown before. Variables hold from line
# to line, as in a terminal.
as() {
	local home=/root script
	script=$(cat)
	[ "$1" = root ] || home=/home/$1
	nsenter --target "$init" --mount --pid --uts --ipc --cgroup --root --wd="/proc/$init/root" \
		env -i HOME="$home" USER="$1" LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "${handed[@]}" \
		setpriv --reuid="$1" --regid="$1" --init-groups \
		bash -c "cd; PS4='\$ '; set -eux
$script" </dev/null
}
# answers URL waits until somebody answers there.
answers() {
	for _ in $(seq 1200); do
		curl --silent --fail --output /dev/null "$1" && return
		if [ -n "$background" ] && ! kill -0 "$background" 2>/dev/null; then fail "it ended: $(tail "$top/meanwhile.log")"; fi
		sleep 0.5
	done
	fail "nobody answers at $1"
}
# domains prints what the API says of all domains.
domains() { curl --silent --fail 'http://127.0.0.1:8080/api/v1/domains?from=2000-01-01&to=2100-01-01' | jq -cS '[.items[] | {domain, totals}]'; }
# ledger_has N waits until the ledger has so many messages.
ledger_has() {
	local ledger=''
	for _ in $(seq 150); do
		ledger=$(curl --silent --fail http://127.0.0.1:8080/api/v1/messages | jq -r '.items[].outcome' | sort | xargs)
		if [ "$(wc -w <<<"$ledger")" -ge "$1" ]; then break; fi
		sleep 0.2
	done
	[ "$ledger" = 'not_a_report ok' ] || fail "the ledger has: $ledger"
}
same() { [ "$1" = "$2" ] || fail "$3: the API says
$1
and it was
$2"; }
# meanwhile USER COMMANDS runs commands, the last one in the background as a job; stop ends it as Ctrl-C does.
meanwhile() {
	as "$1" >"$top/meanwhile.log" 2>&1 <<<"set -m
$(sed '$s/$/ \& child=$!/' <<<"$2")
echo \"\$child\" >/tmp/child-of-$1
wait \$child" &
	background=$! of=$1
}
stop() {
	nsenter --target "$init" --mount --pid --root --wd="/proc/$init/root" bash -c "kill -INT -- -\$(cat /tmp/child-of-$of)"
	wait "$background" || true
	background=
	nsenter --target "$init" --mount --pid --root --wd="/proc/$init/root" rm -f "/tmp/child-of-$of"
	if curl --silent --output /dev/null http://127.0.0.1:8080/healthz; then fail "it still answers after Ctrl-C: $(tail "$top/meanwhile.log")"; fi
}

as root <<<'until systemctl is-system-running --wait 2>/dev/null | grep -E "running|degraded"; do sleep 0.2; done; systemctl --failed --no-legend'

say "README.md: Look at it"
as root <<<"id reader || useradd --create-home --shell /bin/bash reader"
prepare=$(block README.md '## Look at it' 'apt-get')
as root < <(grep -v 'git clone' <<<"$prepare")
clone=$(grep 'git clone' <<<"$prepare")
path=$(grep 'export PATH' <<<"$prepare")
as root <<<'userdel dmarcd 2>/dev/null || true; rm -rf /root/dmarcd /home/reader/dmarcd /var/lib/dmarcd /etc/dmarcd /etc/systemd/system/dmarcd.service'
if [ ! -e "$machine/usr/local/go" ]; then # a machine that was kept has it
	# Without Go it is said what is missing.
	if as root <<<"$clone; make demo" >"$top/without-go.log" 2>&1; then fail "make demo works without Go"; fi
	grep -q 'Go 1\.[0-9.]* or newer is needed' "$top/without-go.log" || fail "without Go, make demo says: $(tail "$top/without-go.log")"
	cp -a "$(go env GOROOT)" "$machine/usr/local/go"
	# To an ordinary user it is said what to install.
	if as reader <<<"$path
$clone; make demo" >"$top/reader.log" 2>&1; then fail "make demo works without PostgreSQL"; fi
	grep -q 'apt-get install .*postgresql' "$top/reader.log" || fail "without PostgreSQL, make demo says: $(tail "$top/reader.log")"
else
	as root <<<"$clone"
	as reader <<<"$clone"
fi

demo() {
	meanwhile "$1" "$path
cd dmarcd
$(block README.md '## Look at it' '^make demo$')"
	answers http://127.0.0.1:8080/readyz
	for _ in $(seq 100); do
		if [ "$(domains | jq length)" -gt 0 ]; then break; fi
		sleep 0.2
	done
	domains | jq -r '.[] | "\(.domain): \(.totals.messages) messages"' | grep -v ': 0 ' || fail "the demo shows no messages"
	stop
}
demo root
demo reader
say "README.md: $test"
block README.md '## Look at it' '^make test$' >/dev/null
as root <<<"$path
cd dmarcd
$test"

say "README.md: Use it"
as root <<'END'
apt-get install --quiet --yes --no-install-recommends dovecot-imapd openssl curl >/dev/null
systemctl stop dovecot
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mail.example.com -addext subjectAltName=DNS:mail.example.com -keyout /etc/dovecot/key.pem -out /etc/dovecot/cert.pem 2>/dev/null
install -m 644 /etc/dovecot/cert.pem /usr/local/share/ca-certificates/mail.example.com.crt
update-ca-certificates >/dev/null
id vmail 2>/dev/null || useradd --create-home vmail
printf '%s\n' 'protocols = imap' 'ssl = required' 'ssl_cert = </etc/dovecot/cert.pem' 'ssl_key = </etc/dovecot/key.pem' 'mail_location = maildir:/home/vmail/Maildir' \
	'passdb {' 'driver = static' 'args = password=s3cret' '}' 'userdb {' 'driver = static' 'args = uid=vmail gid=vmail home=/home/vmail' '}' >/etc/dovecot/dovecot.conf
install -d -o vmail -g vmail /home/vmail/Maildir /home/vmail/Maildir/cur /home/vmail/Maildir/new /home/vmail/Maildir/tmp
install -o vmail -g vmail /root/dmarcd/cmd/dmarcd/testdata/note.eml /home/vmail/Maildir/new/1
{ printf 'From: a@reporter.example\nSubject: Report domain: example.com\nMIME-Version: 1.0\nContent-Type: text/xml\n\n'; cat /root/dmarcd/parse/testdata/parsedmarc/report.xml; } >/home/vmail/Maildir/new/2
chown vmail:vmail /home/vmail/Maildir/new/2
systemctl start dovecot
install -d /etc/dmarcd /root/Mail/dmarc
printf s3cret >/etc/dmarcd/password
cp /root/dmarcd/cmd/dmarcd/testdata/aggregate.xml /root/Mail/dmarc/
gzip -c /root/dmarcd/cmd/dmarcd/testdata/aggregate.xml >/root/report.xml.gz
END
as root <<<"$path
cd dmarcd
$(block README.md '## Use it' 'go build')
$(block README.md '## Use it' 'dmarcd parse')"
meanwhile root "cd dmarcd
$(block README.md '## Use it' 'dmarcd serve')"
answers http://127.0.0.1:8080/readyz
ledger_has 2
say "README.md: API"
as root < <(block README.md '### API' 'curl')
before=$(domains)
stop
# There may be no DNS here: then it says so, and ends with 1.
as root <<<"cd dmarcd
$(block README.md '## Use it' 'dmarcd check' | sed 's/$/ || [ $? -eq 1 ]/')"

say "docs/install.md and deploy/dmarcd.service"
as root <<<"$path
cd dmarcd
$(block docs/install.md '## Binary' 'make build' | grep -v 'git clone')"
unit=$(sed -n '/^\[Unit\]/q; s/^#   //p' "$repository/deploy/dmarcd.service")
as root <<<"cd dmarcd
$(grep -v systemctl <<<"$unit")"
# The mailbox, with its password as the unit recommends.
as root <<'END'
sed 's,^#\(LoadCredential=imap\|Environment=DMARCD_IMAP_\),\1,' -i /etc/systemd/system/dmarcd.service
install -m 600 /etc/dmarcd/password /etc/dmarcd/imap_password
printf 'DMARCD_IMAP_URL=imaps://dmarc@mail.example.com/INBOX\n' >/etc/dmarcd/environment
systemd-analyze verify /etc/systemd/system/dmarcd.service
END
as root < <(grep systemctl <<<"$unit")
answers http://127.0.0.1:8080/readyz
as root <<'END'
systemd-analyze security dmarcd --no-pager | tail -n 1
systemctl show dmarcd --property=User,NRestarts,ActiveState
END
same "$(domains)" "$before" "what root had taken in is served by the unit"

if [ -z "$older" ]; then
	newest=$(git -C "$repository" ls-tree --name-only HEAD migrations/ | grep '\.sql$' | tail -n 1)
	older=$(git -C "$repository" log --format=%H --diff-filter=A HEAD -- "$newest" | tail -n 1)^
fi
say "docs/backup.md: Upgrades, from $(git -C "$repository" log -1 --format='%h %s' "$older")"
as root <<<"$path
systemctl stop dmarcd
rm -rf /var/lib/dmarcd/postgres
cd dmarcd
git checkout --quiet $(git -C "$repository" rev-parse "$older")
make build
install bin/dmarcd /usr/local/bin/
git checkout --quiet $head
make build
systemctl start dmarcd"
answers http://127.0.0.1:8080/readyz
ledger_has 2
as root <<<"dmarcd import dmarcd/cmd/dmarcd/testdata/aggregate.xml"
before=$(domains)
[ "$(jq '[.[].totals.messages] | add // 0' <<<"$before")" -gt 0 ] || fail "the older dmarcd shows no messages"
as root <<<"cd dmarcd
$(block docs/backup.md '## Upgrades' 'install')"
answers http://127.0.0.1:8080/readyz
same "$(domains)" "$before" "after the upgrade"
as root <<<"dmarcd version; dmarcd verify; dmarcd import dmarcd/cmd/dmarcd/testdata/tls.json Mail/dmarc"
before=$(domains)

say "docs/backup.md: Backup and Restore"
as root < <(block docs/backup.md '## Backup' '^dmarcd backup')
as root < <(block docs/backup.md '## Backup' 'host=/var/lib/dmarcd' | sed 's/dmarcd.dump/by-hand.dump/')
as root < <(block docs/backup.md '## Restore' 'dmarcd restore')
answers http://127.0.0.1:8080/readyz
same "$(domains)" "$before" "after the backup was restored"

say "docs/backup.md: From the private server to one of your own"
as root <<'END'
pg_ctlcluster 15 main start || pg_ctlcluster "$(pg_lsclusters -h | awk '{ print $1; exit }')" main start
until runuser -u postgres -- psql -c 'SELECT 1' >/dev/null 2>&1; do sleep 0.2; done
cd /
runuser -u postgres -- psql --command "CREATE ROLE dmarcd LOGIN PASSWORD 's3cret'"
END
as root <<<"cd /
runuser -u postgres -- $(block docs/backup.md '## Restore' '^createdb')"
as root <<<"install -m 600 /dev/stdin ~/.pgpass <<<'db.example.com:5432:dmarcd:dmarcd:s3cret'
$(block docs/backup.md '## From the private server to one of your own' 'dmarcd backup -')
printf 'postgres://dmarcd:s3cret@db.example.com/dmarcd' | install -m 640 -g dmarcd /dev/stdin /etc/dmarcd/database_url
printf '\ndatabase_url_file = \"/etc/dmarcd/database_url\"\n' | cat - /etc/dmarcd/dmarcd.toml >/tmp/toml && cat /tmp/toml >/etc/dmarcd/dmarcd.toml
$(block docs/backup.md '## From the private server to one of your own' 'dmarcd doctor' | sed 's/^dmarcd doctor/dmarcd doctor || true # there may be no DNS/')
rm -rf /var/lib/dmarcd/postgres"
answers http://127.0.0.1:8080/readyz
same "$(domains)" "$before" "after the move to a database of one's own"
as root <<<"systemctl show dmarcd --property=User,NRestarts,ActiveState; systemctl stop dmarcd; journalctl -u dmarcd --no-pager | tail -n 3"
