// Shows what its build made, and the environment that it runs in.
'use strict';
const fs = require('node:fs');
const http = require('node:http');

http.createServer((req, res) => {
    const [, what, name] = req.url.split('/');
    if (what === 'env')
        res.end(process.env[name] ?? '');
    else
        res.end(fs.readFileSync(`${__dirname}/built.txt`));
}).listen(Number(process.env.PORT), '0.0.0.0');
