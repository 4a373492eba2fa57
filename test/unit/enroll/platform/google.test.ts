/** Proof by Google: a metadata server and a key server in Google's place, both over real connections. */
import t from 'tap';
import { audienceOf, googleMaker, googleProof } from '../../../../src/enroll/platform/google.ts';
import { HandClock, makeIssuer } from '../../../fixtures/jwt.ts';
import { platformCompliance } from '../../../compliance/platform-proof.ts';
import { answerJson, loopback, serveWeb, type WebServer } from '../../../fixtures/web-server.ts';

t.setTimeout(120_000);

const clock = new HandClock();
const google = await makeIssuer(clock, { issuer: 'https://accounts.google.com', algorithm: 'RS256' });
await using keyServer = await serveWeb((_seen, response) => answerJson(response, { keys: [google.jwk] }));
const keys = { url: `${keyServer.origin}/oauth2/v3/certs`, rules: { hosts: [keyServer.host], roots: keyServer.roots, inside: loopback } };
const proof = googleProof({ clock, keys });

const instance = {
  project_id: 'edge-prod',
  project_number: 1234567,
  zone: 'europe-west1-b',
  instance_id: '4711',
  instance_name: 'edge-1',
  instance_creation_timestamp: 1,
};
type Claims = Readonly<Record<string, unknown>>;
const claimsOf = (machine: Claims): Claims => ({
  sub: '112233',
  azp: '112233',
  email: 'edge@edge-prod.iam.gserviceaccount.com',
  email_verified: true,
  nbf: undefined,
  google: { compute_engine: machine },
});

/** As the metadata server of an instance answers. */
const metadataOf = (machine: Claims, more: Claims = {}): Promise<WebServer> =>
  serveWeb(
    async ({ path, headers }, response) => {
      const url = new URL(path, 'http://metadata');
      const isRight = url.pathname === '/computeMetadata/v1/instance/service-accounts/default/identity' && url.searchParams.get('format') === 'full';
      if (!isRight || headers['metadata-flavor'] !== 'Google') return void response.writeHead(403).end();
      response.end(await google.sign({ ...claimsOf(machine), aud: url.searchParams.get('audience'), ...more }));
    },
    { plain: true },
  );
const makerOf = ({ origin, host }: WebServer) => googleMaker({ address: origin, rules: { hosts: [host], inside: loopback, plain: true } });

await using one = await metadataOf(instance);
await using two = await metadataOf({ ...instance, instance_id: '4712', instance_name: 'edge-2' });
await using other = await metadataOf({ ...instance, project_id: 'somebody', project_number: 99 });

await t.test('what every proof of a platform shows', async (t) =>
  platformCompliance(t, {
    proof: proof as never,
    first: makerOf(one),
    second: makerOf(two),
    stranger: makerOf(other),
    both: { project: 'edge-prod', zone: 'europe-west1-*' },
    onlyFirst: { project: 'edge-prod', instance: '4711', account: 'edge@edge-prod.iam.gserviceaccount.com' },
    unbound: 'jwt_invalid',
    forgeries: {
      'a token of nobody': [() => ({ token: 'a.b.c' }), 'jwt_invalid'],
      'a token without its signature': [({ token }) => ({ token: String(token).replace(/[^.]*$/, '') }), 'jwt_invalid'],
    },
  }),
);

t.test('only a token of an instance, in full, for this challenge alone, is one', async (t) => {
  const challenge = 'ab'.repeat(32);
  const aud = audienceOf(challenge);
  const judge = async (claims: Claims, header: Claims = {}) =>
    await proof.judge({ token: await google.sign({ aud, ...claims }, header) }, context(challenge) as never);
  t.match(await judge(claimsOf(instance)), { subject: '1234567/4711' });
  const { google: _google, ...plain } = claimsOf(instance);
  const wrong: Record<string, Claims> = {
    'a token of the service account alone': plain,
    'an address not verified': { ...claimsOf(instance), email_verified: false },
    'an instance without number': claimsOf({ ...instance, project_number: null }),
    'an instance id as number': claimsOf({ ...instance, instance_id: 4711 }),
    'another audience': { ...claimsOf(instance), aud: audienceOf('cd'.repeat(32)) },
    'two audiences': { ...claimsOf(instance), aud: [aud, 'other'] },
    'no expiry': { ...claimsOf(instance), exp: undefined },
    'a life of a day': { ...claimsOf(instance), exp: Math.floor(clock.wall() / 1_000) + 86_400 },
    'another issuer': { ...claimsOf(instance), iss: 'https://accounts.google.example' },
  };
  for (const [what, claims] of Object.entries(wrong)) {
    const error = await judge(claims).then(
      () => null,
      (refusal: { code: string }) => refusal,
    );
    t.ok(error !== null && ['jwt_invalid', 'proof_invalid'].includes(error.code), `${what}: ${error?.code}`);
  }
  await t.rejects(judge(claimsOf(instance), { jku: keyServer.origin }), { code: 'jwt_invalid' });
  clock.ms += 3_600_000;
});

/** With a record that takes in everybody of the project. */
function context(challenge: string) {
  const grant = { kind: 'google', id: 'x', site: null, detail: { project: 'edge-prod' }, created_ms: 0 };
  return { challenge, cluster: 'alpha', site: null, records: { grants: async () => [grant] } };
}

t.test('a metadata server that does not give a token is told as what it is', async (t) => {
  await using none = await serveWeb((_seen, response) => void response.writeHead(404).end(), { plain: true });
  await t.rejects(makerOf(none).make({ nonce: 'x', csrHash: new Uint8Array(32), digest: 'ab', sign: (data) => data }), { code: 'platform_unavailable' });
});
