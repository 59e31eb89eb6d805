#!/bin/sh
# criu.sh PROGRAM FOLDER: dumps the program in the middle, restores it, and prints its final output. Prints the reason
# and exits with 77 where CRIU does not work.
program=$1
folder=$2
cd "$folder" && mkdir images || exit 1

cannot()
{
	grep Error log | tail -n 1
	exit 77
}

criu check > log 2>&1 || cannot
: > out
setsid "$program" pause "$folder/go" < /dev/null > out 2>&1 &
pid=$!
until grep -q paused out; do
	kill -0 $pid || { cat out; exit 1; }
	sleep 0.1
done
if ! criu dump -t $pid -D images >> log 2>&1; then
	touch go
	wait $pid
	cannot
fi
# Its pid must be free.
wait $pid
touch go
criu restore -D images >> log 2>&1 || cannot
cat out
