#!/bin/sh
# Checks zones before they are published: zone files, named like their zones ("example.com.zone" or "example.com"), are served by
# Knot on this machine, and looked up through an Unbound that takes them from there, and everything else from the Internet, or from
# the resolver that UPSTREAM names as ADDRESS@PORT.
#
#     check-zones.sh zones/*.zone
#
# Name servers are not asked themselves: they still have what was published before.
# CHECK holds options of dmarcd check, such as "--selector s1". Exit status 1 if there is any error. It needs knotd and unbound
# (apt-get install knot unbound), and no root.
set -eu
PATH=$PATH:/usr/sbin
knot=${KNOT_PORT:-5300} resolver=${RESOLVER_PORT:-5301}

dir=$(mktemp -d)
stop() {
	for file in "$dir"/*.pid; do
		[ -s "$file" ] || continue
		pid=$(cat "$file")
		kill "$pid" || continue
		while [ -e "$file" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
	done
	rm -rf "$dir" || true
}
trap stop EXIT

cat >"$dir/knot.conf" <<CONF
server:
    rundir: $dir
    listen: 127.0.0.1@$knot
database:
    storage: $dir
zone:
CONF
cat >"$dir/unbound.conf" <<CONF
server:
    directory: "$dir"
    interface: 127.0.0.1
    port: $resolver
    do-not-query-localhost: no
    username: ""
    chroot: ""
    pidfile: "$dir/unbound.pid"
    use-syslog: no
remote-control:
    control-enable: no
CONF
[ -z "${UPSTREAM:-}" ] || printf 'forward-zone:\n    name: "."\n    forward-addr: %s\n' "$UPSTREAM" >>"$dir/unbound.conf"

zones=
for file; do
	name=$(basename "$file" .zone)
	zones="$zones $name"
	printf '  - domain: %s\n    file: %s\n' "$name" "$(realpath "$file")" >>"$dir/knot.conf"
	# What is served here is not signed yet, whatever the registry says.
	printf 'server:\n    domain-insecure: "%s"\nforward-zone:\n    name: "%s"\n    forward-addr: 127.0.0.1@%s\n' "$name" "$name" "$knot" >>"$dir/unbound.conf"
done

knotd -d -c "$dir/knot.conf"
unbound -c "$dir/unbound.conf"
# shellcheck disable=SC2086 # names and options are words
dmarcd check --resolver-only --resolver "127.0.0.1:$resolver" ${CHECK:-} $zones
