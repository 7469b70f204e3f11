# Keeps a private Postgres for its owner, the process at the other end of stdin.
# When that end closes, for whatever reason, the server stops and a temporary directory goes.
#
# Arguments: directory of the binaries; directory to work in; keep | remove; then the server's own.
# Orders on stdin: "init PASSWORD" or "copy DATA_DIRECTORY"; "start PORT"; while the server runs, the name of a signal for it.
# Answers on stdout: "ready"; "started PID"; "exited STATUS" of initdb, the copy or the server; else a complaint.

bin=$1 directory=$2 fate=$3
shift 3

umask 077
# Whoever signals a whole group or service must not separate the server from its watchdog.
trap : HUP INT QUIT TERM PIPE
exec 3<&0 </dev/null

if [ "$fate" = remove ]; then
    last_signal=QUIT
    initdb_options='--no-sync --wal-segsize=1'
    mkdir "$directory" 2>&1 || exit
else
    last_signal=INT
    initdb_options=
fi
cd "$directory" 2>&1 || exit
[ ! -f log ] || mv -f log log.old
# What comes in as stderr is a persistent directory's lock: the server inherits it, so that it lasts as long.
exec 4>&2 2>>log
echo ready

# Complete or absent: a power failure half-way leaves no `data`.
init() {
    rm -rf new
    # shellcheck disable=SC2086
    "$bin/initdb" -D new -U pgio -A reject -E UTF8 --locale=C $initdb_options &&
        printf '%s\n' "ALTER ROLE pgio PASSWORD '$1'" 'ALTER DATABASE postgres RENAME TO pgio' |
        "$bin/postgres" --single -D new -c exit_on_error=on -c password_encryption=scram-sha-256 \
            -c log_min_error_statement=panic template1 &&
        mv new data
}

# As complete as the other.
copy() {
    rm -rf new
    cp -pR "$1" new && mv new data
}

# In a subshell of its own: obeys the owner while the main shell waits for the server.
obey() {
    trap '' HUP INT QUIT TERM PIPE
    while read -r signal; do
        kill -s "$signal" "$1"
    done
    # Again and again: a server that has not set its handlers up yet loses it.
    while kill -s "$last_signal" "$1"; do
        sleep 1 </dev/null 3<&- 4>&-
    done
}

while read -r order argument <&3; do
    case $order in
    init)
        init "$argument" >>log
        echo "exited $?"
        ;;
    copy)
        copy "$argument" >>log
        echo "exited $?"
        ;;
    start)
        "$bin/postgres" -D "$directory/data" -c port="$argument" "$@" >>log 3<&- &
        server=$!
        echo "started $server"
        obey "$server" <&3 >>log &
        obeyer=$!
        # A signal to this shell ends `wait` early.
        until
            wait "$server"
            status=$?
            ! kill -0 "$server"
        do :; done 2>/dev/null
        {
            kill -s KILL "$obeyer"
            wait "$obeyer"
        } 2>/dev/null
        echo "exited $status"
        ;;
    esac
done

cd /
[ "$fate" = keep ] || rm -rf "$directory"
