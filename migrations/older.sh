#!/bin/sh
# Prints the newest commit that does not know the newest step of the schema: what an
# upgrade begins with. It fails where the history is too short.
set -eu
cd "$(dirname "$0")/.."
known() { sort -u | wc -l; } # of steps, each of its own number
newest=$(ls migrations | grep '\.sql$' | cut -c1-4 | known)
for commit in $(git rev-list --topo-order HEAD); do
	names=$(git ls-tree --name-only "$commit" migrations/ | sed -n 's|^migrations/\([0-9]*\)_.*\.sql$|\1|p')
	if [ "$(echo "$names" | wc -l)" -eq $((newest - 1)) ] && [ "$(echo "$names" | known)" -eq $((newest - 1)) ]; then
		echo "$commit"
		exit
	fi
done
echo "no commit of this clone knows $((newest - 1)) steps of the schema and no more: is it a shallow one?" >&2
exit 1
