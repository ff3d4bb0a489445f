#!/usr/bin/env bash
#
# Draw the messages per minute of a queue, by the state they are in now.
#
#   examples/messages_per_minute.sh orders '2026-11-21 09:00+00' '2026-11-21 12:00+00' orders.svg
#
# The window is one of production time; its end is not included.  The file is .svg or .png.
# Needs psql, and gnuplot (on Debian: apt-get install gnuplot-nox).  Connects as psql does:
# PGHOST, PGPORT, PGDATABASE, PGUSER; PGTZ is the time zone of the picture.  The numbers are
# those of messages_per_minute.sql beside this script.

set -euo pipefail

die()
{
	printf '%s\n' "$@" >&2
	exit 1
}

me=${0##*/}
(($# == 4)) || die "usage: $me queue from until file.svg|file.png"
queue=$1 from=$2 until=$3 file=$4
[[ $file == *.@(svg|png) ]] || die "$me: the name of the file must end in .svg or .png: $file"
command -v gnuplot >/dev/null || die "$me: gnuplot is missing; on Debian: apt-get install gnuplot-nox"
command -v psql >/dev/null || die "$me: psql is missing; on Debian: apt-get install postgresql-client"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
psql -X -v queue="$queue" -v from="$from" -v until="$until" -f "$(dirname "$0")/messages_per_minute.sql" >"$work/numbers"
grep -q ',.*[1-9]' "$work/numbers" || die "$me: queue $queue has no messages from $from until $until"
# each minute twice, at its beginning and at its end: areas with steps
sed -n '1d; s/$/,0/p; s/0$/60/p' "$work/numbers" >"$work/steps"

cat >"$work/plot" <<'END'
numbers = ARG1."/numbers"
steps = ARG1."/steps"
if (ARG2 eq "png") {
	set terminal pngcairo size 1000,420 background "white" font "sans,10"
} else {
	set terminal svg size 1000,420 dynamic background "white" font "sans-serif,13"
}
set datafile separator ","
set timefmt "%Y-%m-%d %H:%M"

zone = ""
stats numbers using (zone = strcol(1)[17:], timecolumn(1)) skip 1 nooutput name "minute"
stats numbers using ($2 + $3 + $4 + $5) skip 1 nooutput name "all"
stats numbers using 2 skip 1 nooutput name "ready"
stats numbers using 3 skip 1 nooutput name "delayed"
stats numbers using 4 skip 1 nooutput name "in_flight"
stats numbers using 5 skip 1 nooutput name "deleted"
end = minute_max + 60
same_day = strftime("%F", minute_min) eq strftime("%F", end)
set title sprintf("Messages of queue %s\n%s to %s", ARG3, strftime("%Y-%m-%d %H:%M", minute_min), \
	strftime(same_day ? "%H:%M" : "%Y-%m-%d %H:%M", end)) noenhanced

set key outside right top Left reverse noenhanced title "State when drawn" left
set style fill solid 1 noborder
set border 3
set tics nomirror out
set grid y
set xdata time
set format x (end - minute_min <= 86400 ? "%H:%M" : "%m-%d\n%H:%M")
set xrange [minute_min : end]
if (end - minute_min <= 600) { set xtics 60 }
set yrange [0 : all_max * 1.05]
if (all_max < 6) { set ytics 1 }
set xlabel sprintf("Minute of production (UTC%s)", zone)
set ylabel "Messages per minute"

# from the sum of the states below to that with its own
x(i) = timecolumn(i) + $6
plot steps using (x(1)):($5 + $4 + $2):($5 + $4 + $2 + $3) with filledcurves lc rgb "#cc79a7" title sprintf("delayed (%d)", delayed_sum), \
	steps using (x(1)):($5 + $4):($5 + $4 + $2) with filledcurves lc rgb "#0072b2" title sprintf("ready (%d)", ready_sum), \
	steps using (x(1)):5:($5 + $4) with filledcurves lc rgb "#e69f00" title sprintf("in_flight (%d)", in_flight_sum), \
	steps using (x(1)):(0):5 with filledcurves lc rgb "#b8c4ce" title sprintf("deleted (%d)", deleted_sum)
END
# what was given reaches gnuplot as strings, never as code
gnuplot -c "$work/plot" "$work" "${file##*.}" "$queue" >"$work/picture"
cat "$work/picture" >"$file"
