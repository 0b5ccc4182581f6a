'use strict';
console.log(`${process.env.DYNO} works, its port is ${process.env.PORT}`);
setInterval(() => {}, 1000);
process.on('SIGTERM', () => process.exit(0));
