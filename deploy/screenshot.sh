#!/bin/sh
# Takes a picture of the dashboard as the demo shows it.
#
#   deploy/screenshot.sh [FILE [PATH]]     docs/screenshot.png and / unless told otherwise
#   deploy/screenshot.sh --all FOLDER      a page of each kind, wide and narrow, light and dark, and what forms lead to
set -eu
cd "$(dirname "$0")/.."
file=${1:-docs/screenshot.png}
page=${2:-/}

for browser in chromium-headless-shell headless-shell chromium chromium-browser google-chrome google-chrome-stable ''; do
	if command -v "$browser" >/dev/null 2>&1; then break; fi
done
if [ -z "$browser" ]; then
	echo "a picture needs Chromium" >&2
	exit 1
fi

dir=$(mktemp -d)
bin/dmarcd demo --listen 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
demo=$!
trap 'kill $demo 2>/dev/null; wait $demo 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

url=
tries=0
while [ -z "$url" ]; do
	if ! kill -0 $demo 2>/dev/null || [ $tries -ge 1200 ]; then
		echo "the demo did not come up:" >&2
		cat "$dir/out" "$dir/err" >&2
		exit 1
	fi
	sleep 0.1
	tries=$((tries + 1))
	url=$(sed -n 's|.*\(http://[0-9.]*:[0-9]*\).*|\1|p' "$dir/out" | head -n 1)
done

if [ "$file" = --all ]; then
	"${GO:-go}" run ./web/internal/shot -all "${2:?a folder}" "$url"
	exit
fi

mkdir -p "$(dirname "$file")"
sandbox=
if [ "$(id -u)" -eq 0 ]; then sandbox=--no-sandbox; fi # Chromium refuses root otherwise
"$browser" --headless $sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync \
	--hide-scrollbars --user-data-dir="$dir/profile" --window-size=1200,840 --screenshot="$file" "$url$page" >"$dir/browser" 2>&1 || {
	cat "$dir/browser" >&2
	exit 1
}
echo "$file" >&2
