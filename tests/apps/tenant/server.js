// A tenant who tries what he should not be able to, and keeps notes.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const dns = require('node:dns/promises');
const { spawn } = require('node:child_process');
const { reachAll } = require('./probe.js');

const bombs = {
    // Each process becomes two, as long as there may be more.
    fork: () => spawn('sh', ['-c', 'f() { f | f & }; while :; do f; sleep 0.1; done'], { stdio: 'ignore' }),
    memory: () => { const held = []; setInterval(() => held.push(Buffer.alloc(32 << 20, 1)), 20); },
    disk: () => {
        const file = fs.openSync('/var/tmp/filler', 'w');
        const piece = Buffer.alloc(4 << 20, 1);
        setInterval(() => fs.writeSync(file, piece), 10);
    },
    flood: () => spawn('yes', ['a line of a log that nobody will ever read, and many of them'], { stdio: 'inherit' }),
};

const body = async req => { let text = ''; for await (const piece of req) text += piece; return text; };

const answer = async req => {
    const [, verb, ...rest] = req.url.split('/');
    const path = '/' + rest.join('/');
    switch (`${req.method} ${verb}`) {
        case 'POST reach': return reachAll(await body(req));
        case 'GET lookup': return (await dns.lookup(rest[0])).address;
        case 'POST bomb': bombs[rest[0]](); return 'lit';
        case 'GET file': return fs.readFileSync(path, 'utf8');
        case 'PUT file': fs.writeFileSync(path, await body(req)); return 'written';
        case 'GET rights': return `${process.getuid()} ${fs.readFileSync('/proc/self/status', 'utf8')}${fs.readFileSync('/proc/self/limits', 'utf8')}`;
        default: return 'tenant';
    }
};

http.createServer((req, res) => answer(req).then(text => res.end(text), e => { res.statusCode = 500; res.end(String(e)); }))
    .listen(Number(process.env.PORT));
process.on('SIGTERM', () => process.exit(0));
