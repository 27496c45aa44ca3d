<?php
// The first page's title is the wiki's, however its characters are written in HTML; and uploads have a place.
[ , $config, $url ] = $argv;
$title = trim( file_get_contents( "$config/title" ) );
$page = file_get_contents( $url, false, stream_context_create( [ 'http' => [ 'timeout' => 30 ] ] ) );
preg_match( '#<title>(.*?)</title>#s', (string)$page, $found );
$seen = html_entity_decode( $found[1] ?? '', ENT_QUOTES | ENT_HTML5 );
if ( !str_contains( $seen, $title ) ) {
	fwrite( STDERR, "the first page at $url should bear the title \"$title\", but bears \"$seen\"\n" );
	exit( 1 );
}
if ( !is_writable( '/var/lib/mediawiki/images' ) ) {
	fwrite( STDERR, "/var/lib/mediawiki/images cannot be written: uploads have no place\n" );
	exit( 1 );
}
