'use strict';
const eaten = [];
for (;;)
    eaten.push(Buffer.alloc(1 << 20, 1));
