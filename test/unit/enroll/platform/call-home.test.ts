/** The whole way: a host calls home over HTTPS and shows who it is by its platform; what stops on the way costs nothing. */
import { join } from 'node:path';
import t from 'tap';
import { callHome } from '../../../../src/enroll/call-home.ts';
import { googleMaker, googleProof } from '../../../../src/enroll/platform/google.ts';
import { completeSpec, kinds } from '../../../../src/tower/resources/kinds.ts';
import { initTower, openTower } from '../../../../src/tower/init.ts';
import { systemClock, systemRandom, systemTimers } from '../../../../src/transport/system.ts';
import { freshDirectory } from '../../../compliance/store.ts';
import { makeIssuer } from '../../../fixtures/jwt.ts';
import { answerJson, loopback, serveWeb } from '../../../fixtures/web-server.ts';
import { endpoints, serve, unseal } from '../../tower/support.ts';

t.setTimeout(120_000);

t.test('a host of Google joins without a token, also when its platform did not answer at first', async (t) => {
  const google = await makeIssuer(systemClock, { issuer: 'https://accounts.google.com', algorithm: 'RS256' });
  await using keyServer = await serveWeb((_seen, response) => answerJson(response, { keys: [google.jwk] }));
  let failures = 1;
  await using metadata = await serveWeb(
    async ({ path }, response) => {
      if (failures-- > 0) return void response.writeHead(503).end();
      const compute_engine = { project_id: 'edge', project_number: 7, zone: 'europe-west1-b', instance_id: '4711', instance_name: 'gate' };
      const claims = {
        aud: new URL(path, 'http://metadata').searchParams.get('audience'),
        email: 'a@b.example',
        email_verified: true,
        google: { compute_engine },
      };
      response.end(await google.sign({ ...claims, nbf: undefined }));
    },
    { plain: true },
  );
  const keys = { url: `${keyServer.origin}/certs`, rules: { hosts: [keyServer.host], roots: keyServer.roots, inside: loopback } };
  const folder = freshDirectory(t);
  const parts = { state: join(folder, 'tower'), unseal, endpoints, clock: systemClock, random: systemRandom };
  await initTower({ ...parts, cluster: 'alpha' });
  const tower = await openTower({ ...parts, proofs: [googleProof({ clock: systemClock, keys }) as never] });
  t.teardown(() => tower.close());
  await tower.resources.create('site', 'north', completeSpec(kinds.site, { proofs: ['google'] }), 'local');
  await tower.hosts.add({ kind: 'google', facts: { project: 'edge' }, site: 'north' }, 'local');
  const { host, port } = await serve(t, tower);
  const proof = googleMaker({ address: metadata.origin, rules: { hosts: [metadata.host], inside: loopback, plain: true } });
  const request = {
    ...{ state: join(folder, 'node'), unseal, tower: { host, port }, fingerprint: tower.rootFingerprint, proof, cluster: 'alpha' },
    ...{ name: 'gate', site: 'north', listen: [], timers: systemTimers, random: systemRandom },
  };
  await t.rejects(callHome(request), { code: 'platform_unavailable' });
  const { identity } = await callHome(request);
  t.match(identity, { name: 'gate', site: 'north', cluster: 'alpha' });
  t.match(await tower.hosts.page(['google'], { after: null, limit: 10 }), [{ uses: 1, detail: { project: 'edge' } }]);
});
