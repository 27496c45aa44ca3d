<?php
// The wiki's settings. Secrets and the owner's free texts are read from files of their own.
if ( !defined( 'MEDIAWIKI' ) ) {
	exit;
}
$wgSitename = trim( file_get_contents( '${files}/title' ) );
$wgMetaNamespace = 'Project';
$wgLanguageCode = getenv( 'WIKI_LANGUAGE' ) ?: 'en';
$wgLocaltimezone = 'UTC';

// A wiki on a device of one's own has as many addresses as the device. The edge passes on what
// was typed, its port included.
$address = trim( file_get_contents( '${files}/address' ) );
$wgServer = $address === 'auto' ? WebRequest::detectServer( false ) : $address;
unset( $address );
$wgScriptPath = '';
$wgResourceBasePath = '';
$wgArticlePath = '/index.php/$1';
$wgUsePathInfo = true;
// The edge says who asks.
$wgCdnServersNoPurge = [ '127.0.0.1' ];

$wgDBtype = 'postgres';
$wgDBserver = '${import.db.host}';
$wgDBport = '${import.db.port}';
$wgDBname = '${import.db.database}';
$wgDBuser = '${import.db.user}';
$wgDBpassword = trim( file_get_contents( '${import.db.password}' ) );
$wgDBmwschema = 'mediawiki';
$wgSecretKey = trim( file_get_contents( '${secret.session}' ) );
$wgAuthenticationTokenVersion = '1';

$wgMainCacheType = CACHE_ACCEL;
$wgSessionCacheType = CACHE_DB;
$wgParserCacheType = CACHE_DB;
$wgCacheDirectory = '/tmp/cache';
$wgTmpDirectory = '/tmp';

$wgEnableUploads = true;
$wgUploadDirectory = '/var/lib/mediawiki/images';
$wgUploadPath = '/images';
$wgMaxUploadSize = ${param.upload};
$wgFileExtensions = [ 'png', 'gif', 'jpg', 'jpeg', 'webp', 'pdf', 'txt' ];
// GD is in the tree, ImageMagick is not.
$wgUseImageMagick = false;
$wgDiff3 = '/usr/bin/diff3';
// The whole wiki is in a sandbox with limits already.
$wgShellRestrictionMethod = false;
$wgMaxShellMemory = 0;

// It talks to its database and to nobody else.
$wgEnableEmail = false;
$wgPingback = false;
$wgAllowExternalImages = false;

$wgGroupPermissions['*']['edit'] = '${param.edits}' === 'everybody';
$wgGroupPermissions['*']['createaccount'] = '${param.signup}' === 'true';

$wgDefaultSkin = 'vector-2022';
foreach ( [ 'MonoBook', 'Timeless', 'Vector' ] as $skin ) {
	wfLoadSkin( $skin );
}
foreach ( [ 'CategoryTree', 'Cite', 'Gadgets', 'ImageMap', 'InputBox', 'Interwiki', 'Nuke', 'ParserFunctions', 'Poem',
	'TemplateData', 'WikiEditor' ] as $extension ) {
	wfLoadExtension( $extension );
}
unset( $skin, $extension );

$wgLogos = [ '1x' => '/look/logo.svg', 'icon' => '/look/logo.svg' ];
$wgFavicon = '/look/logo.svg';
$wgHooks['BeforePageDisplay'][] = static function ( OutputPage $page ) {
	$page->addStyle( '/look/site.css' );
};
