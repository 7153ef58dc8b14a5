<?php
// The web guest's page: reads a row, computes so many steps with it, and says what came out; load.c computes the same.
$row = (int)($_GET['row'] ?? 1);
$steps = (int)($_GET['steps'] ?? 0);
$database = new PDO('mysql:unix_socket=/run/mysqld.sock;dbname=lemp', 'web', '', [PDO::ATTR_PERSISTENT => true]);
$page = $database->query("select seed, title from page where id = $row")->fetch();
$begun = hrtime(true);
$x = (int)$page['seed'];
$table = array_fill(0, 1024, 0);
for ($i = 0; $i < $steps; $i++) {
    $x = ($x * 1103515245 + 12345) & 0x7fffffff;
    $table[($x >> 8) & 1023] ^= $x + $i;
}
$sum = 0;
foreach ($table as $value) {
    $sum = ($sum * 31 + $value) & 0xffffffff;
}
$us = intdiv(hrtime(true) - $begun, 1000);
header('Content-Type: text/html');
printf("<!DOCTYPE html>\n<title>%s</title>\n<h1>%s</h1>\n<p>sum=%u steps=%d worker=%d us=%d</p>\n", $page['title'], $page['title'], $sum, $steps, getenv('WORKER'), $us);
