/** Proof by Kubernetes: an API server in its place that knows TokenRequest and its own keys, over real TLS; tokens as the kubelet projects them. */
import type { Challenge } from '../../../../src/enroll/proof.ts';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import t from 'tap';
import { audienceOf } from '../../../../src/enroll/platform/google.ts';
import { kubernetesProof } from '../../../../src/enroll/platform/kubernetes.ts';
import { kubernetesMaker } from '../../../../src/enroll/platform/kubernetes-maker.ts';
import { JwtIssuer } from '../../../../src/identity/jwt.ts';
import { CLUSTER, enrollmentWorld } from '../../../fixtures/enrollment.ts';
import { HandClock, makeIssuer, type TestIssuer } from '../../../fixtures/jwt.ts';
import { platformCompliance } from '../../../compliance/platform-proof.ts';
import { answerJson, loopback, serveWeb, type WebServer } from '../../../fixtures/web-server.ts';

t.setTimeout(120_000);

const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const clock = new HandClock();
const cluster = await makeIssuer(clock, { issuer: ISSUER, algorithm: 'RS256' });
const foreign = await makeIssuer(clock, { issuer: 'https://other.example', algorithm: 'RS256' });

const uidOf = (digit: string) => `${digit.repeat(8)}-0000-4000-8000-${digit.repeat(12)}`;
const podOf = (digit: string, account = 'selvedge') => ({
  sub: `system:serviceaccount:edge:${account}`,
  jti: uidOf(digit),
  'kubernetes.io': {
    namespace: 'edge',
    node: { name: `worker-${digit}`, uid: uidOf('9') },
    pod: { name: `selvedge-${digit}`, uid: uidOf(digit) },
    serviceaccount: { name: account, uid: uidOf('8') },
  },
});
type Pod = ReturnType<typeof podOf>;

/** Gives a pod that shows its token another, for the audience that it asks for, bound to itself; gives everybody its keys. */
const serveApi = (issuer: TestIssuer): Promise<WebServer> =>
  serveWeb(async ({ method, path, headers, body }, response) => {
    if (path === '/openid/v1/jwks') return answerJson(response, { keys: [issuer.jwk] });
    const own = decodeJwt(String(headers.authorization).replace('Bearer ', '')) as unknown as Pod;
    const { namespace, serviceaccount, pod } = own['kubernetes.io'];
    const { spec } = JSON.parse(body) as { spec: { audiences: string[]; expirationSeconds: number; boundObjectRef: unknown } };
    t.same(spec.boundObjectRef, { kind: 'Pod', apiVersion: 'v1', ...pod });
    if (method !== 'POST' || path !== `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceaccount.name}/token`) return answerJson(response, {}, 404);
    const { sub } = own;
    answerJson(
      response,
      { kind: 'TokenRequest', status: { token: await issuer.sign({ sub, 'kubernetes.io': own['kubernetes.io'], aud: spec.audiences }) } },
      201,
    );
  });

await using api = await serveApi(cluster);
await using foreignApi = await serveApi(foreign);
const rulesOf = ({ host, roots }: WebServer) => ({ hosts: [host], roots, inside: loopback });
const judgeOf = (issuer: TestIssuer, server: WebServer) =>
  new JwtIssuer({
    issuer: issuer.issuer,
    algorithms: ['RS256'],
    keys: { url: `${server.origin}/openid/v1/jwks`, rules: rulesOf(server) },
    clock,
    life_s_max: 7_200,
  });

const folder = t.testdir();
const tokenFile = async (issuer: TestIssuer, pod: Pod, more: Readonly<Record<string, unknown>> = {}): Promise<string> => {
  const path = join(folder, `${pod.jti}-${issuer.kid}-${Math.random()}`);
  await writeFile(path, `${await issuer.sign({ ...pod, aud: [`selvedge:${CLUSTER}`], ...more })}\n`);
  return path;
};
const makerOf = async (pod: Pod, issuer = cluster, server = api) =>
  kubernetesMaker({ tokenFile: await tokenFile(issuer, pod), api: { address: server.origin, rules: rulesOf(server) } });

const facts = { issuer: ISSUER, namespace: 'edge', account: 'selvedge' };

const [first, second, stranger] = [await makerOf(podOf('1')), await makerOf(podOf('2')), await makerOf(podOf('1'), foreign, foreignApi)];
await t.test('what every proof of a platform shows, bound: a token that the API server made for this challenge', async (t) =>
  platformCompliance(t, {
    proof: kubernetesProof([
      { issuer: judgeOf(cluster, api), plain: false },
      { issuer: judgeOf(foreign, foreignApi), plain: false },
    ]) as never,
    first,
    second,
    // Another cluster has namespaces and accounts of the same names.
    stranger,
    both: facts,
    onlyFirst: { ...facts, pod: uidOf('1'), node: 'worker-*' },
    unbound: 'jwt_invalid',
    forgeries: {
      'a token of nobody': [() => ({ token: 'a.b.c' }), 'jwt_invalid'],
      'a token without its signature': [({ token }) => ({ token: String(token).replace(/[^.]*$/, '') }), 'jwt_invalid'],
    },
  }),
);

await t.test('a projected token is taken only where the configuration says so, and once', async (t) => {
  const plainMaker = kubernetesMaker({ tokenFile: await tokenFile(cluster, podOf('1')), api: null });
  const strict = await enrollmentWorld(t, kubernetesProof([{ issuer: judgeOf(cluster, api), plain: false }]) as never, clock);
  await strict.record('all', facts);
  await t.rejects(strict.host('one').enroll(plainMaker), { code: 'jwt_invalid' });

  const lenient = await enrollmentWorld(t, kubernetesProof([{ issuer: judgeOf(cluster, api), plain: true }]) as never, clock);
  await lenient.record('all', facts);
  const one = lenient.host('one');
  const { node } = await one.enroll(plainMaker);
  t.match(await one.enroll(plainMaker), { isNew: false, node: { id: node.id } }, 'a lost answer costs nothing');
  await t.rejects(lenient.host('thief').enroll(plainMaker), { code: 'proof_exhausted' }, 'a copy of the token, with another key');
  const fresh = kubernetesMaker({ tokenFile: await tokenFile(cluster, podOf('1')), api: null });
  await t.rejects(lenient.host('thief').enroll(fresh), { code: 'proof_exhausted' }, 'another token of the same pod');
  const other = kubernetesMaker({ tokenFile: await tokenFile(cluster, podOf('2'), { aud: ['selvedge:other'] }), api: null });
  await t.rejects(lenient.host('two').enroll(other), { code: 'jwt_invalid' }, 'a token for another cluster');
  t.equal((await lenient.host('two').enroll(await makerOf(podOf('2')))).isNew, true, 'bound ones are taken as well');
});

await t.test('only a token of a pod, with one account in all its places, is one', async (t) => {
  const proof = kubernetesProof([{ issuer: judgeOf(cluster, api), plain: true }]);
  const challenge = 'ab'.repeat(32);
  const grant = { kind: 'kubernetes', id: 'x', site: null, detail: facts, created_ms: 0 };
  const context = { challenge, cluster: CLUSTER, site: null, records: { grants: async () => [grant] } };
  const judge = async (claims: object) => await proof.judge({ token: await cluster.sign({ aud: audienceOf(challenge), ...claims }) }, context as never);
  t.match(await judge(podOf('1')), { subject: `${ISSUER} pod ${uidOf('1')}` });
  const { 'kubernetes.io': inside, ...outside } = podOf('1');
  const { pod: _pod, ...podless } = inside;
  const wrong: Record<string, object> = {
    'a token without pod': { ...outside, 'kubernetes.io': podless },
    'a token of no cluster': outside,
    'another subject': { ...podOf('1'), sub: 'system:serviceaccount:kube-system:selvedge' },
    'a subject with more': { ...podOf('1'), sub: 'system:serviceaccount:edge:selvedge:x' },
    'a nil pod': { ...outside, 'kubernetes.io': { ...inside, pod: null } },
    'two audiences': { ...podOf('1'), aud: [audienceOf(challenge), 'https://kubernetes.default.svc'] },
    'the audience of the API server': { ...podOf('1'), aud: ['https://kubernetes.default.svc'] },
    'a nil beginning': { ...podOf('1'), nbf: null },
    'a life of a year': { ...podOf('1'), exp: Math.floor(clock.wall() / 1_000) + 365 * 86_400 },
  };
  for (const [what, claims] of Object.entries(wrong)) {
    const error = await judge(claims).then(
      () => null,
      (refusal: { code: string }) => refusal,
    );
    t.ok(error !== null && ['jwt_invalid', 'proof_invalid'].includes(error.code), `${what}: ${error?.code}`);
  }
});

await t.test('a pod that may not create tokens, or has none, is told so', async (t) => {
  await using denying = await serveWeb((_seen, response) => answerJson(response, { kind: 'Status' }, 403));
  const challenge: Challenge = { nonce: 'x', csrHash: new Uint8Array(32), digest: 'ab', sign: (data) => data };
  const denied = kubernetesMaker({ tokenFile: await tokenFile(cluster, podOf('1')), api: { address: denying.origin, rules: rulesOf(denying) } });
  await t.rejects(denied.make(challenge), { code: 'platform_unavailable', message: /create its own tokens/ });
  await t.rejects(kubernetesMaker({ tokenFile: '/nowhere', api: null }).make(challenge), { code: 'not_found' });
});
