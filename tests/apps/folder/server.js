// Shows which files it was built of.
'use strict';
const fs = require('node:fs');
const http = require('node:http');

const list = (folder, below = '') => fs.readdirSync(folder, { withFileTypes: true }).flatMap(entry =>
    entry.isDirectory() ? list(`${folder}/${entry.name}`, `${below}${entry.name}/`) : [`${below}${entry.name}${entry.isSymbolicLink() ? '@' : ''}`]);

http.createServer((req, res) => {
    if (req.url === '/files')
        res.end(list('/app').sort().join(' '));
    else if (req.url.startsWith('/env/'))
        res.end(process.env[req.url.slice(5)] ?? '');
    else if (req.url.startsWith('/slow/'))
        setTimeout(() => res.end('slow'), Number(req.url.slice(6)));
    else
        res.end(fs.readFileSync('/app/version.txt'));
}).listen(Number(process.env.PORT), '0.0.0.0');
