// Says of each host:port, one a line, whether it can be reached.
'use strict';
const net = require('node:net');

const reach = target => new Promise(resolve => {
    const at = target.lastIndexOf(':');
    const socket = target.startsWith('/') ? net.connect(target) : net.connect(Number(target.slice(at + 1)), target.slice(0, at));
    const end = outcome => { clearTimeout(timer); socket.destroy(); resolve(`${target} ${outcome}`); };
    const timer = setTimeout(() => end('ETIMEDOUT'), 3000);
    socket.on('connect', () => end('open')).on('error', e => end(e.code));
});

exports.reachAll = async text => (await Promise.all(text.split('\n').filter(Boolean).map(reach))).join('\n') + '\n';

if (require.main === module)
    exports.reachAll(require('node:fs').readFileSync(0, 'utf8')).then(told => process.stdout.write(told));
