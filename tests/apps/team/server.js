// Says which of the app's processes answers.
'use strict';
const fs = require('node:fs');
const http = require('node:http');

const version = fs.readFileSync(`${__dirname}/version.txt`, 'utf8').trim();
http.createServer((req, res) => {
    req.resume().on('end', () => {
        if (req.url === '/slow')
            setTimeout(() => res.end('slow'), 3000);
        else
            res.end(`${process.env.DYNO} ${version}`);
    });
}).listen(Number(process.env.PORT), '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
