<?php
// Installs the wiki into an empty database, and brings an older one's tables up to date. Invariant: visitors meet a whole
// wiki or none: an installation that was cut off has left its mark, and is begun again.
const WIKI = '/usr/share/mediawiki';
const STATE = '/var/lib/mediawiki/tables-of';
const SCHEMA = 'mediawiki';
const MARK = 'public.mediawiki_unfinished';

function fail( string $what ): never {
	fwrite( STDERR, "prepare: $what\n" );
	exit( 1 );
}

/** Runs one of MediaWiki's own programs; its arguments hold no secret. */
function maintenance( array $arguments, array $environment ): void {
	$script = array_shift( $arguments );
	$command = array_merge( [ PHP_BINARY, '-c', php_ini_loaded_file(), WIKI . "/maintenance/$script" ], $arguments );
	$process = proc_open( $command, [ STDIN, STDERR, STDERR ], $pipes, '/tmp', $environment );
	if ( !$process || proc_close( $process ) !== 0 ) {
		fail( "$script failed" );
	}
}

function ask( PgSql\Connection $db, string $statement, array $values = [] ): array {
	$result = pg_query_params( $db, $statement, $values );
	return $result ? pg_fetch_all( $result ) : fail( pg_last_error( $db ) );
}

function quoted( string $text ): string {
	return "'" . addcslashes( $text, "'\\" ) . "'";
}

$names = [ 'host' => 'DB_HOST', 'port' => 'DB_PORT', 'dbname' => 'DB_NAME', 'user' => 'DB_USER' ];
$parts = array_map( fn ( $name ) => quoted( getenv( $name ) ), $names );
$parts['password'] = quoted( trim( file_get_contents( getenv( 'SECRET_DB_PASSWORD_FILE' ) ) ) );
$db = pg_connect( implode( ' ', array_map( fn ( $key ) => "$key={$parts[$key]}", array_keys( $parts ) ) ) )
	?: fail( 'the database cannot be reached' );
preg_match( "/MW_VERSION', '([^']+)'/", file_get_contents( WIKI . '/includes/Defines.php' ), $found );
$version = $found[1] ?? fail( 'MediaWiki does not say its version' );

$exists = fn ( string $table ) => ask( $db, 'SELECT to_regclass($1) AS it', [ $table ] )[0]['it'] !== null;
if ( $exists( MARK ) ) {
	ask( $db, 'DROP SCHEMA IF EXISTS ' . SCHEMA . ' CASCADE' );
} elseif ( !$exists( SCHEMA . '.page' ) ) {
	ask( $db, 'CREATE TABLE ' . MARK . ' ()' );
}
if ( $exists( MARK ) ) {
	@mkdir( '/tmp/install' );
	// The installer wants to write settings of its own; they are read by nobody.
	$environment = getenv();
	unset( $environment['MW_CONFIG_FILE'] );
	maintenance( [
		'install.php', '--dbtype=postgres', '--dbserver=' . getenv( 'DB_HOST' ), '--dbport=' . getenv( 'DB_PORT' ),
		'--dbname=' . getenv( 'DB_NAME' ), '--dbuser=' . getenv( 'DB_USER' ), '--dbschema=' . SCHEMA,
		'--dbpassfile=' . getenv( 'SECRET_DB_PASSWORD_FILE' ), '--passfile=' . getenv( 'SECRET_ADMIN_FILE' ),
		'--confpath=/tmp/install', '--scriptpath=', '--server=http://localhost', '--lang=' . getenv( 'WIKI_LANGUAGE' ),
		trim( file_get_contents( dirname( php_ini_loaded_file() ) . '/title' ) ), 'Admin',
	], $environment );
	ask( $db, 'DROP TABLE ' . MARK );
}
// Its own tables came with the installation, those of extensions come here. Harmless when there is nothing to do.
if ( @file_get_contents( STATE ) !== $version ) {
	maintenance( [ 'update.php', '--quick' ], getenv() );
	file_put_contents( STATE, $version ) ?: fail( 'the uploads volume cannot be written' );
}
