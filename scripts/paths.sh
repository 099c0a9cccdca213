# Where the scripts keep what they install and what the server of `make up` stores. Sourced by
# bash; sets variables only. Root gets system folders, because the embedded PostgreSQL then runs as
# an unprivileged user who cannot look into root's home.

if [ "$EUID" -eq 0 ]; then
    base=/opt/coditect
    data_dir=${CODITECT_DATA_DIR:-/var/lib/coditect}
else
    base=$HOME/.local/share/coditect
    data_dir=${CODITECT_DATA_DIR:-$base/server}
fi

# Programs that only the tests need, built from source once.
tools_dir=$base/tools
# Unpacked PostgreSQL; `current` is the one in use.
postgresql_dir=$base/postgresql

export PATH="$tools_dir/bin:$PATH"
