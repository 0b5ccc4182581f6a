<?php
require_once 'Twig/autoload.php';

$twig = new \Twig\Environment(new \Twig\Loader\ArrayLoader(['page' => '<h1>Notes of {{ name }}</h1>']));
echo $twig->render('page', ['name' => $_GET['name'] ?? 'nobody']);
