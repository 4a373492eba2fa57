/** Proof by AWS against moto's STS, behind a gate in which botocore verifies each signature (test/fixtures/sts.py). */
import t from 'tap';
import { askAws, type AwsOptions, awsProof, readIdentity } from '../../../../src/enroll/platform/aws.ts';
import { awsCredentialsOfEnvironment, awsCredentialsOfInstance, awsMaker, signAws } from '../../../../src/enroll/platform/aws-maker.ts';
import type { AwsEvidence } from '../../../../src/enroll/platform/aws-request.ts';
import type { ProofContext } from '../../../../src/enroll/proof.ts';
import { limits } from '../../../../src/base/limits.ts';
import { systemClock } from '../../../../src/transport/system.ts';
import { platformCompliance } from '../../../compliance/platform-proof.ts';
import { startSts } from '../../../fixtures/sts.ts';
import { loopback, serveWeb } from '../../../fixtures/web-server.ts';

t.setTimeout(180_000);

const HOST = 'sts.eu-central-1.amazonaws.com';
const CHALLENGE = 'c0'.repeat(32);
const sts = await startSts(t);
const options: AwsOptions = {
  endpoints: [
    { host: HOST, address: `https://localhost:${sts.port}` },
    { host: 'sts.amazonaws.com', address: `https://localhost:${sts.port}` },
  ],
  rules: { roots: sts.roots, inside: loopback },
};
const clock = systemClock;
const ask = (evidence: AwsEvidence, challenge = CHALLENGE, of = options) => askAws(of, evidence, { challenge, now_ms: clock.wall() });
const sign = (more: { host?: string; challenge?: string; shift_ms?: number } = {}) =>
  signAws(more.host ?? HOST, more.challenge ?? CHALLENGE, sts.first, clock.wall() + (more.shift_ms ?? 0));

const session = ({ sessionToken }: typeof sts.first) => (sessionToken === undefined ? {} : { session_token: sessionToken });

t.test('AWS tells account, role and instance of who signed, at either kind of endpoint', async (t) => {
  const facts = { account: sts.account, role: 'edge-node', instance: 'i-0123456789abcdef0' };
  t.match(await ask(sign()), { subject: `arn:aws:sts::${sts.account}:assumed-role/edge-node/i-0123456789abcdef0`, facts });
  t.match(await ask(sign({ host: 'sts.amazonaws.com' })), { facts });
  t.match(await ask(signAws(HOST, CHALLENGE, sts.user, clock.wall())), { facts: { account: sts.account, user: 'builder' } });
});

t.test('a signature for anything else than this request is refused by AWS', async (t) => {
  const good = sign();
  const forged: Record<string, AwsEvidence> = {
    'another challenge': sign({ challenge: 'd0'.repeat(32) }),
    'another signature': { ...good, signature: good.signature.replace(/^./, (first) => (first === '0' ? '1' : '0')) },
    'another endpoint': { ...sign({ host: 'sts.amazonaws.com' }), host: HOST },
    'another time': { ...good, date: sign({ shift_ms: -60_000 }).date },
    'the credentials of another': { ...good, access_key: sts.second.accessKeyId, ...session(sts.second) },
    'without its session': { host: HOST, access_key: good.access_key, date: good.date, signature: good.signature },
    nobody: signAws(HOST, CHALLENGE, { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI' }, clock.wall()),
    'long ago': sign({ shift_ms: -200_000 }),
  };
  for (const [what, evidence] of Object.entries(forged)) await t.rejects(ask(evidence), { code: 'proof_invalid' }, what);
});

t.test('what cannot be good is refused before AWS is asked', async (t) => {
  await using nobody = await serveWeb((_seen, response) => void response.end());
  const none: AwsOptions = { endpoints: [{ host: HOST, address: nobody.origin }], rules: { roots: nobody.roots, inside: loopback } };
  const asked = (evidence: AwsEvidence) => ask(evidence, CHALLENGE, none);
  for (const host of [
    'sts.amazonaws.com',
    'sts.attacker.example',
    `${HOST}.attacker.example`,
    `${HOST}.`,
    `user@${HOST}`,
    `${HOST}:443`,
    'ѕts.eu-central-1.amazonaws.com',
    '169.254.169.254',
    '',
  ])
    await t.rejects(asked({ ...sign(), host }), { code: 'proof_invalid' }, host);
  await t.rejects(asked({ ...sign(), date: '20261399T000000Z' }), { code: 'proof_invalid' });
  await t.rejects(asked(sign({ shift_ms: -3_600_000 })), { code: 'proof_invalid' });
  await t.rejects(asked(sign({ shift_ms: 3_600_000 })), { code: 'clock_skew' });
  t.equal(nobody.seen.length, 0);
});

t.test('the tower sends exactly what was signed, and nothing that the host could add to it', async (t) => {
  await using listener = await serveWeb((_seen, response) => void response.writeHead(403).end());
  const evidence = sign();
  const heard: AwsOptions = { endpoints: [{ host: HOST, address: listener.origin }], rules: { roots: listener.roots, inside: loopback } };
  await t.rejects(ask(evidence, CHALLENGE, heard), { code: 'proof_invalid' });
  const [seen] = listener.seen;
  t.match(seen, { method: 'GET', body: '' });
  t.same(seen?.rawHeaders, ['host', HOST, 'x-selvedge-challenge', CHALLENGE, 'connection', 'close']);
  const url = new URL(seen?.path ?? '', listener.origin);
  t.equal(url.pathname, '/');
  t.same([...url.searchParams.keys()].toSorted(), [...new Set(url.searchParams.keys())].toSorted(), 'no key comes twice');
  t.same(Object.fromEntries(url.searchParams), {
    Action: 'GetCallerIdentity',
    Version: '2011-06-15',
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${sts.first.accessKeyId}/${evidence.date.slice(0, 8)}/eu-central-1/sts/aws4_request`,
    'X-Amz-Date': evidence.date,
    'X-Amz-Expires': '120',
    'X-Amz-Security-Token': sts.first.sessionToken,
    'X-Amz-SignedHeaders': 'host;x-selvedge-challenge',
    'X-Amz-Signature': evidence.signature,
  });
});

t.test('while AWS is asked for as many hosts as are allowed at once, another is told to come again; then it is asked for others', async (t) => {
  const held: (() => void)[] = [];
  await using slow = await serveWeb((_seen, response) => void held.push(() => response.writeHead(403).end()));
  const { judge } = awsProof({ endpoints: [{ host: HOST, address: slow.origin }], rules: { roots: slow.roots, inside: loopback } });
  const judged = () => judge(sign(), { challenge: CHALLENGE, now_ms: clock.wall() } as ProofContext);
  const all = Array.from({ length: limits.platform_calls_max }, () => judged().catch((error: { code: string }) => error.code));
  await t.rejects(judged(), { code: 'limit_reached' });
  const answering = setInterval(() => {
    for (const answer of held.splice(0)) answer();
  }, 10);
  t.strictSame(new Set(await Promise.all(all)), new Set(['proof_invalid']));
  await t.rejects(judged(), { code: 'proof_invalid' });
  clearInterval(answering);
});

t.test('an endpoint that redirects, floods, stalls or says something else is not believed', async (t) => {
  const answers: Record<string, [number, string]> = {
    'a redirect': [302, ''],
    'not an answer': [200, '<html></html>'],
    'a flood': [200, 'x'.repeat(100_000)],
    'an outage': [503, ''],
    'two accounts': [200, identityXml({}).replace('<Account>', '<Account>1</Account><Account>')],
  };
  for (const [what, [status, body]] of Object.entries(answers)) {
    await using server = await serveWeb((_seen, response) => void response.writeHead(status, { location: 'https://169.254.169.254/' }).end(body));
    const there: AwsOptions = { endpoints: [{ host: HOST, address: server.origin }], rules: { roots: server.roots, inside: loopback } };
    await t.rejects(ask(sign(), CHALLENGE, there), { code: 'platform_unavailable' }, what);
    t.equal(server.seen.length, 1, `${what}: nothing is followed`);
    await t.rejects(ask(sign(), CHALLENGE, { ...there, rules: { roots: server.roots } }), { code: 'platform_unavailable' }, 'inside by default');
    t.equal(server.seen.length, 1);
  }
});

function identityXml({ account = '123456789012', arn = 'arn:aws:sts::123456789012:assumed-role/edge/i-1', user = 'AROAEXAMPLEEXAMPLE:i-1' }): string {
  return `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>${arn}</Arn><UserId>${user}</UserId><Account>${account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`;
}

t.test('only an answer of exactly one form tells an identity', async (t) => {
  const read = (text: string) => readIdentity(new TextEncoder().encode(text));
  t.match(read(identityXml({})), { facts: { account: '123456789012', role: 'edge', instance: 'i-1', id: 'AROAEXAMPLEEXAMPLE' } });
  t.match(read(identityXml({ arn: 'arn:aws-cn:iam::123456789012:user/team/ann', user: 'AIDAEXAMPLEEXAMPLE' })), { facts: { user: 'ann', role: undefined } });
  t.match(read(identityXml({ arn: 'arn:aws:iam::123456789012:root', user: '123456789012' })), { facts: { user: undefined, role: undefined } });
  const wrong = [
    identityXml({ account: '210987654321' }),
    identityXml({ user: 'AROAEXAMPLEEXAMPLE:i-2' }),
    identityXml({ arn: 'arn:aws:sts::123456789012:assumed-role/edge/i-1<!-- -->' }),
    identityXml({ arn: '<![CDATA[arn:aws:sts::123456789012:assumed-role/edge/i-1]]>' }),
    identityXml({ account: '12345678901&#50;' }),
    identityXml({}).replace('<Arn>', '<x><Arn>y</Arn></x><Arn>'),
    `<ErrorResponse>${identityXml({})}</ErrorResponse>`,
    '',
  ];
  for (const text of wrong) t.throws(() => read(text), { code: 'platform_unavailable' }, text.slice(0, 300));
});

t.test('credentials come from the environment, or from the metadata service of the instance', async (t) => {
  t.equal(awsCredentialsOfEnvironment({}), null);
  t.same(awsCredentialsOfEnvironment({ AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 's' }), { accessKeyId: 'a', secretAccessKey: 's' });
  const { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token } = sts.first;
  await using metadata = await serveWeb(
    ({ method, path, headers }, response) => {
      if (method === 'PUT' && path === '/latest/api/token' && headers['x-aws-ec2-metadata-token-ttl-seconds'] === '60') return void response.end('session');
      if (headers['x-aws-ec2-metadata-token'] !== 'session') return void response.writeHead(401).end();
      if (path === '/latest/meta-data/iam/security-credentials/') return void response.end('edge-node\n');
      response.end(JSON.stringify({ Code: 'Success', AccessKeyId, SecretAccessKey, Token }));
    },
    { plain: true },
  );
  const rules = { hosts: [metadata.host], inside: loopback, plain: true };
  t.same(await awsCredentialsOfInstance(metadata.origin, rules), sts.first);
  t.equal(metadata.seen.length, 3);
});

const maker = (credentials: typeof sts.first) => awsMaker({ host: HOST, clock, credentials: async () => credentials });
platformCompliance(t, {
  proof: awsProof(options) as never,
  first: maker(sts.first),
  second: maker(sts.second),
  stranger: maker(sts.user),
  both: { account: sts.account, role: 'edge-*' },
  onlyFirst: { account: sts.account, role: 'edge-node', instance: 'i-0123456789abcdef0' },
  unbound: 'proof_invalid',
  forgeries: {
    'another signature': [
      (evidence) => ({ ...evidence, signature: String(evidence.signature).replace(/^./, (first) => (first === '0' ? '1' : '0')) }),
      'proof_invalid',
    ],
    'another endpoint': [(evidence) => ({ ...evidence, host: 'sts.attacker.example' }), 'proof_invalid'],
  },
});
