#!/usr/bin/env bash
# Sees to it that the servers the tests need can be reached, and says where they are.
#
#   scripts/services.sh up      start, or on Debian as root install, what is missing
#   scripts/services.sh env     the same, then print the export lines for the tests:
#                               eval "$(scripts/services.sh env)"
#   scripts/services.sh clean   drop the schemas, databases and ledgers that killed tests left behind
#
# A server named by SEQUENCER_TEST_…_URL is taken as it is and never touched, except by clean. Otherwise the server of this
# machine is used, and a role and a database of our own are made on it. Every step may be repeated.
#
# One function per server, called from up(); another server is another function. Talk goes to stderr.
set -euo pipefail

say() { printf 'services: %s\n' "$*" >&2; }

# give_up REASON, then remedies one per line
give_up() {
	say "$1"
	shift
	printf '  %s\n' "$@" >&2
	exit 1
}

on_debian_as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

updated=
install_packages() {
	say "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	if [ -z "$updated" ]; then
		apt-get -q update >&2 || say 'the lists of packages could not be renewed; going on with the old ones'
		updated=yes
	fi
	apt-get -q install -y --no-install-recommends "$@" >&2
}

# wait_for SECONDS COMMAND…
wait_for() {
	local left=$1
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || return 1
		sleep 1
	done
}

# The race detector needs a C compiler.
c_compiler() {
	command -v "${CC:-gcc}" >/dev/null || command -v cc >/dev/null && return
	on_debian_as_root || give_up 'no C compiler, and the race detector needs one' 'install gcc or clang and run this again'
	install_packages gcc libc6-dev
}

# --- PostgreSQL -----------------------------------------------------------------------------------------------------

pg_role=sequencer_test # role, password and database have one name; internal/testdb knows it too
pg_port=5432
pg_url() { printf 'postgres://%s:%s@127.0.0.1:%s/%s?sslmode=disable' $pg_role $pg_role "$pg_port" $pg_role; }

pg_answers() { PGCONNECT_TIMEOUT=5 psql -X -q -d "$1" -c 'select 1' </dev/null >/dev/null 2>&1; }

# Runs SQL from stdin as an administrator: the user postgres without a password over TCP, else by the socket (as root by
# becoming that user), else whoever calls.
pg_admin() {
	local trusted="postgres://postgres@127.0.0.1:$pg_port/postgres"
	local psql="psql -X -q -v ON_ERROR_STOP=1"
	if pg_answers "$trusted"; then
		$psql -d "$trusted"
	elif [ "$(id -u)" = 0 ]; then
		(cd / && su postgres -s /bin/sh -c "$psql -p $pg_port -d postgres")
	else
		$psql -p "$pg_port" -d postgres
	fi
}

pg_start_debian() {
	# The tools of postgresql-common may be there without any server.
	if ! command -v pg_ctlcluster >/dev/null || ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
		install_packages postgresql
	fi
	local line version cluster
	line=$(pg_lsclusters -h | tail -n 1)
	if [ -z "$line" ]; then
		version=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | cut -d / -f 5 | sort -n | tail -n 1)
		say "making a PostgreSQL $version cluster"
		pg_createcluster "$version" main >&2
		line=$(pg_lsclusters -h | tail -n 1)
	fi
	read -r version cluster pg_port _ <<<"$line"
	if ! pg_lsclusters -h | grep -q "^$version  *$cluster .* online"; then
		say "starting PostgreSQL $version on port $pg_port"
		# A pid file that outlived its server makes this fail although the server then runs: what counts is the wait below.
		pg_ctlcluster --skip-systemctl-redirect "$version" "$cluster" start >&2 || true
	fi
	wait_for 30 pg_isready -q -h 127.0.0.1 -p "$pg_port" || give_up \
		"PostgreSQL $version does not answer on 127.0.0.1:$pg_port" \
		"its log: /var/log/postgresql/postgresql-$version-$cluster.log"
}

pg_prepare() {
	say "making role and database $pg_role on 127.0.0.1:$pg_port"
	pg_admin >&2 <<SQL
do \$\$ begin
	if not exists (select from pg_roles where rolname = '$pg_role') then
		create role $pg_role;
	end if;
end \$\$;
alter role $pg_role login password '$pg_role';
select 'create database $pg_role owner $pg_role' where not exists (select from pg_database where datname = '$pg_role') \gexec
SQL
}

postgres() {
	if [ -n "${SEQUENCER_TEST_POSTGRES_URL:-}" ]; then
		if command -v psql >/dev/null && ! pg_answers "$SEQUENCER_TEST_POSTGRES_URL"; then
			give_up 'the server in SEQUENCER_TEST_POSTGRES_URL does not answer' \
				'start it, correct the variable, or unset it to use the server of this machine'
		fi
		return
	fi
	if ! command -v psql >/dev/null || ! pg_answers "$(pg_url)"; then
		if on_debian_as_root; then
			pg_start_debian
		elif ! command -v psql >/dev/null || ! wait_for 1 pg_isready -q -h 127.0.0.1 -p $pg_port; then
			give_up "no PostgreSQL on 127.0.0.1:$pg_port, and this script installs one only on Debian as root" \
				'either install and start PostgreSQL (14 or newer, with psql) and run this again,' \
				'or: export SEQUENCER_TEST_POSTGRES_URL=postgres://user:password@host:5432/database' \
				'    (the user must be allowed to create schemas in that database)'
		fi
		pg_answers "$(pg_url)" || pg_prepare || give_up "cannot make the role and database $pg_role" \
			'as an administrator of the server:' \
			"  create role $pg_role login password '$pg_role';" \
			"  create database $pg_role owner $pg_role;"
		pg_answers "$(pg_url)" || give_up "$(pg_url) does not answer" \
			'let the role log in with its password over TCP from 127.0.0.1 (pg_hba.conf), or set SEQUENCER_TEST_POSTGRES_URL'
	fi
	SEQUENCER_TEST_POSTGRES_URL=$(pg_url)
}

postgres_clean() {
	psql -X -q -v ON_ERROR_STOP=1 -d "$SEQUENCER_TEST_POSTGRES_URL" >&2 <<'SQL'
select format('drop schema %I cascade', nspname) from pg_namespace where nspname ~ '^test_[0-9a-f]{16}$' \gexec
SQL
}

# --- MySQL: MariaDB, where we install one ----------------------------------------------------------------------------

my_user=sequencer_test # user and password have one name; internal/testdb knows it too
my_port=3306
my_url() { printf 'mysql://%s:%s@127.0.0.1:%s/' $my_user $my_user "$my_port"; }

my_client() { command -v mariadb || command -v mysql; }

# my_run URL, SQL from stdin
my_run() {
	local user password host
	IFS=: read -r user password <<<"$(sed -E 's#^[a-z]+://([^@]*)@.*#\1#' <<<"$1")"
	host=$(sed -E 's#^[a-z]+://([^@]*@)?([^/?]*).*#\2#' <<<"$1")
	MYSQL_PWD=$password "$(my_client)" --no-defaults --protocol=tcp --connect-timeout=5 -N -B \
		-h "${host%%:*}" -P "$(cut -s -d : -f 2 <<<"$host:3306" | head -n 1)" -u "$user"
}

my_answers() { my_run "$1" <<<'select 1' >/dev/null 2>&1; }

# Runs SQL from stdin as an administrator: root without a password over TCP, else by the socket.
my_admin() {
	local trusted="mysql://root@127.0.0.1:$my_port/"
	if my_answers "$trusted"; then
		my_run "$trusted"
	else
		"$(my_client)" --no-defaults -u root
	fi
}

my_start_debian() {
	if ! my_client >/dev/null || ! { command -v mariadbd || command -v mysqld; } >/dev/null; then
		install_packages mariadb-server mariadb-client
	fi
	if ! my_admin <<<'select 1' >/dev/null 2>&1; then
		say 'starting MariaDB'
		service mariadb start >&2 || service mysql start >&2 || true # what counts is the wait below
	fi
	wait_for 60 sh -c "echo 'select 1' | $(my_client) --no-defaults -u root" || wait_for 1 my_answers "mysql://root@127.0.0.1:$my_port/" ||
		give_up 'MariaDB does not answer' 'its log: journalctl -u mariadb, or /var/log/mysql/error.log'
}

my_prepare() {
	say "making the MySQL user $my_user on 127.0.0.1:$my_port"
	my_admin >&2 <<SQL
create user if not exists '$my_user'@'%' identified by '$my_user';
alter user '$my_user'@'%' identified by '$my_user';
create user if not exists '$my_user'@'localhost' identified by '$my_user';
alter user '$my_user'@'localhost' identified by '$my_user';
grant all on \`test\\_%\`.* to '$my_user'@'%';
grant all on \`test\\_%\`.* to '$my_user'@'localhost';
SQL
}

mysql_server() {
	if [ -n "${SEQUENCER_TEST_MYSQL_URL:-}" ]; then
		if my_client >/dev/null && ! my_answers "$SEQUENCER_TEST_MYSQL_URL"; then
			give_up 'the server in SEQUENCER_TEST_MYSQL_URL does not answer' \
				'start it, correct the variable, or unset it to use the server of this machine'
		fi
		return
	fi
	if ! my_client >/dev/null || ! my_answers "$(my_url)"; then
		if on_debian_as_root; then
			my_start_debian
		elif ! my_client >/dev/null || ! my_admin <<<'select 1' >/dev/null 2>&1; then
			give_up "no MySQL or MariaDB on 127.0.0.1:$my_port, and this script installs one only on Debian as root" \
				'either install and start MariaDB (10.6 or newer) or MySQL (8.0.19 or newer), with its client, and run this again,' \
				'or: export SEQUENCER_TEST_MYSQL_URL=mysql://user:password@host:3306/' \
				'    (the user must be allowed to create databases whose names begin with test_)'
		fi
		my_answers "$(my_url)" || my_prepare || give_up "cannot make the user $my_user" \
			'as an administrator of the server:' \
			"  create user '$my_user'@'%' identified by '$my_user';" \
			"  grant all on \`test\_%\`.* to '$my_user'@'%';"
		my_answers "$(my_url)" || give_up "$(my_url) does not answer" \
			'let the user log in with its password over TCP from 127.0.0.1, or set SEQUENCER_TEST_MYSQL_URL'
	fi
	SEQUENCER_TEST_MYSQL_URL=$(my_url)
}

mysql_clean() {
	my_run "$SEQUENCER_TEST_MYSQL_URL" <<'SQL' | my_run "$SEQUENCER_TEST_MYSQL_URL"
select concat('drop database `', schema_name, '`;') from information_schema.schemata where schema_name regexp '^test_[0-9a-f]{16}$'
SQL
}

# --- Redis ----------------------------------------------------------------------------------------------------------

redis_port=6379
cluster_port=6390 # a server of our own in cluster mode, which has all slots; internal/testdb knows both ports

redis_answers() { [ "$(timeout 5 redis-cli -u "$1" ping 2>/dev/null </dev/null)" = PONG ]; }

redis_binaries() {
	command -v redis-server >/dev/null && command -v redis-cli >/dev/null && return
	on_debian_as_root || give_up 'no Redis, and this script installs one only on Debian as root' \
		'either install redis-server 7 or newer (or Valkey, with commands of these names) and run this again,' \
		'or: export SEQUENCER_TEST_REDIS_URL=redis://host:6379 SEQUENCER_TEST_REDIS_CLUSTER_URL=redis://host:port'
	install_packages redis-server
}

# redis_start PORT OPTION… starts a server that keeps nothing on disk.
redis_start() {
	local port=$1 dir
	shift
	dir=$(mktemp -d "${TMPDIR:-/tmp}/sequencer-redis-XXXXXX")
	say "starting Redis on port $port"
	redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --logfile "$dir/log" --save '' --daemonize yes "$@" >&2
	wait_for 10 redis_answers "redis://127.0.0.1:$port" || give_up "Redis does not answer on 127.0.0.1:$port" "its log: $dir/log"
}

redis_server() {
	if [ -n "${SEQUENCER_TEST_REDIS_URL:-}" ]; then
		if command -v redis-cli >/dev/null && ! redis_answers "$SEQUENCER_TEST_REDIS_URL"; then
			give_up 'the server in SEQUENCER_TEST_REDIS_URL does not answer' \
				'start it, correct the variable, or unset it to use the server of this machine'
		fi
		return
	fi
	SEQUENCER_TEST_REDIS_URL=redis://127.0.0.1:$redis_port
	redis_binaries
	redis_answers "$SEQUENCER_TEST_REDIS_URL" || redis_start $redis_port
}

redis_cluster() {
	[ -z "${SEQUENCER_TEST_REDIS_CLUSTER_URL:-}" ] || return 0
	SEQUENCER_TEST_REDIS_CLUSTER_URL=redis://127.0.0.1:$cluster_port
	redis_binaries
	redis_answers "$SEQUENCER_TEST_REDIS_CLUSTER_URL" || redis_start $cluster_port --cluster-enabled yes --cluster-node-timeout 60000
	redis-cli -p $cluster_port cluster info | grep -q '^cluster_slots_assigned:16384' ||
		redis-cli -p $cluster_port cluster addslotsrange 0 16383 >&2
	wait_for 10 eval "redis-cli -p $cluster_port cluster info | grep -q '^cluster_state:ok'" ||
		give_up "the Redis cluster on 127.0.0.1:$cluster_port does not come up" "see: redis-cli -p $cluster_port cluster info"
}

redis() {
	redis_server
	redis_cluster
}

redis_clean() {
	local url
	for url in "$SEQUENCER_TEST_REDIS_URL" "$SEQUENCER_TEST_REDIS_CLUSTER_URL"; do
		redis-cli -u "$url" eval "local at = '0'
			repeat
				local found = redis.call('SCAN', at, 'MATCH', '{test_*', 'COUNT', 1000)
				at = found[1]
				for _, key in ipairs(found[2]) do redis.call('UNLINK', key) end
			until at == '0'" 0 >&2
	done
}

# --- Chromium -------------------------------------------------------------------------------------------------------

# The tests of the dashboard look at it in a browser. One that is named by SEQUENCER_TEST_CHROMIUM is taken as it is. The
# fonts are for what the tests photograph.
chromium_browser() {
	if [ -z "${SEQUENCER_TEST_CHROMIUM:-}" ]; then
		if ! command -v chromium >/dev/null; then
			on_debian_as_root || give_up 'no Chromium, and this script installs one only on Debian as root' \
				'either install chromium and run this again,' \
				'or: export SEQUENCER_TEST_CHROMIUM=/path/to/chromium (or chrome)'
			install_packages chromium fonts-dejavu-core
		fi
		SEQUENCER_TEST_CHROMIUM=$(command -v chromium)
	fi
	[ -x "$SEQUENCER_TEST_CHROMIUM" ] || give_up "SEQUENCER_TEST_CHROMIUM is $SEQUENCER_TEST_CHROMIUM, which is no program" \
		'correct the variable, or unset it to use the Chromium of this machine'
}

# ---------------------------------------------------------------------------------------------------------------------

up() {
	c_compiler
	postgres
	mysql_server
	say "PostgreSQL is at $(sed -E 's#(//[^:/@]*):[^@]*@#\1:…@#' <<<"$SEQUENCER_TEST_POSTGRES_URL")"
	say "MySQL is at $(sed -E 's#(//[^:/@]*):[^@]*@#\1:…@#' <<<"$SEQUENCER_TEST_MYSQL_URL")"
	redis
	say "Redis is at $(sed -E 's#(//[^:/@]*):[^@]*@#\1:…@#' <<<"$SEQUENCER_TEST_REDIS_URL $SEQUENCER_TEST_REDIS_CLUSTER_URL")"
	chromium_browser
	say "Chromium is at $SEQUENCER_TEST_CHROMIUM"
}

case "${1:-up}" in
up) up ;;
env)
	up
	printf 'export SEQUENCER_TEST_POSTGRES_URL=%q\n' "$SEQUENCER_TEST_POSTGRES_URL"
	printf 'export SEQUENCER_TEST_MYSQL_URL=%q\n' "$SEQUENCER_TEST_MYSQL_URL"
	printf 'export SEQUENCER_TEST_REDIS_URL=%q\n' "$SEQUENCER_TEST_REDIS_URL"
	printf 'export SEQUENCER_TEST_REDIS_CLUSTER_URL=%q\n' "$SEQUENCER_TEST_REDIS_CLUSTER_URL"
	printf 'export SEQUENCER_TEST_CHROMIUM=%q\n' "$SEQUENCER_TEST_CHROMIUM"
	;;
clean)
	up
	postgres_clean
	mysql_clean
	redis_clean
	;;
*)
	sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p;}' "$0" >&2
	exit 2
	;;
esac
