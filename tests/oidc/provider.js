// A real OpenID Connect provider, whose users are whoever logs in: "ann" has ann@oidc.test, verified; "ann.unverified" the same address, not
// verified; "ann+boss" is another subject of it in the group appoxy-admins. PUT /lie/CLAIM/VALUE has it lie in the next id token.
import { Provider } from 'oidc-provider';
import * as jose from 'jose';

const { PORT, REDIRECTS } = process.env;
const issuer = `http://127.0.0.1:${PORT}`;
const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true });
const { privateKey: otherKey } = await jose.generateKeyPair('RS256');
const key = { ...(await jose.exportJWK(privateKey)), kid: 'test', alg: 'RS256', use: 'sig' };

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  cookies: { keys: ['test'] },
  clients: [{ client_id: 'appoxy', client_secret: 'secret of the test', redirect_uris: REDIRECTS.split(' ') }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['groups'] },
  pkce: { methods: ['S256'], required: () => true },
  ttl: { Session: 600, Interaction: 600, Grant: 600, AccessToken: 600, IdToken: 600 },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id, email: `${id.split(/[.+]/)[0]}@oidc.test`, email_verified: !id.includes('.unverified'),
      groups: id.includes('+boss') ? ['staff', 'appoxy-admins'] : ['staff'],
    }),
  }),
});

let lie = null;
provider.use(async (ctx, next) => {
  const [, word, claim, value] = ctx.path.split('/');
  if (ctx.method === 'PUT' && word === 'lie') {
    lie = { claim, value: decodeURIComponent(value) };
    ctx.body = '';
    return;
  }
  await next();
  if (ctx.path !== '/token' || !ctx.body?.id_token || !lie) return;
  const told = lie;
  lie = null;
  const claims = jose.decodeJwt(ctx.body.id_token);
  if (told.claim !== 'key') claims[told.claim] = told.claim === 'exp' ? Number(told.value) : told.value;
  ctx.body.id_token = await new jose.SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: 'test' })
    .sign(told.claim === 'key' ? otherKey : privateKey);
});
provider.listen(PORT, '127.0.0.1', () => console.log('ready'));
