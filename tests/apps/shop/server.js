// A shop for the tests: pages, uploads, websockets and slow answers, on express and ws from npm.
'use strict';
const crypto = require('node:crypto');
const http = require('node:http');
const express = require('express');
const { WebSocketServer } = require('ws');

const app = express();
app.disable('x-powered-by');
const version = require('./package.json').version;

app.get('/', (req, res) => res.type('text').send(`shop ${version} at ${req.headers.host}\n`));
app.get('/headers', (req, res) => res.json(req.headers));
app.get('/env/:name', (req, res) => res.type('text').send(process.env[req.params.name] ?? ''));
app.get('/slow/:ms', (req, res) => setTimeout(() => res.type('text').send('slow\n'), Math.min(Number(req.params.ms), 60000)));
app.get('/status/:code', (req, res) => res.status(Number(req.params.code)).type('text').send(`own ${req.params.code}\n`));
// Like one of Appoxy's own pages, and with headers that would steer nginx.
app.get('/forged/:code', (req, res) => res.status(Number(req.params.code)).set('X-Appoxy-Page', 'own')
    .set('X-Accel-Redirect', '/.appoxy/page').type('text').send(`forged ${req.params.code}\n`));
app.get('/events', (req, res) => res.type('text/event-stream').write('data: welcome\n\n'));
app.get('/crash', () => process.exit(3));
app.post('/sha256', (req, res) => {
    const hash = crypto.createHash('sha256');
    req.on('data', chunk => hash.update(chunk)).on('end', () => res.type('text').send(hash.digest('hex')));
});

const server = http.createServer(app);
new WebSocketServer({ server }).on('connection', socket => socket.on('message', data => socket.send(`echo ${data}`)));
process.on('SIGTERM', () => process.exit(0));
console.log(`shop ${version} starts`);
server.listen(Number(process.env.PORT), '0.0.0.0');
