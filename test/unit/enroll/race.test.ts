/** Many hosts at once with one token, each over a connection of its own: its limit holds, and what is counted is what is there. */
import { join } from 'node:path';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { callHome } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, serve, unseal } from '../tower/support.ts';

t.setTimeout(300_000);

const ATTEMPTS = 200;
const USES = 10;

t.test(`${ATTEMPTS} parallel attempts over HTTPS on a token of ${USES} uses enroll exactly ${USES}`, async (t) => {
  const tower = await makeTower(t);
  const { host, port, sockets } = await serve(t, tower);
  const { text, token } = await tower.createToken({ uses: USES, life_ms: HOUR_MS });
  const states = freshDirectory(t);
  const proof = tokenMaker(text);
  const attempt = async (index: number) => {
    const where = { state: join(states, `${index}`), tower: { host, port }, fingerprint: tower.rootFingerprint, cluster: proof.cluster };
    const { identity } = await callHome({ ...where, unseal, proof, name: `n${index}`, listen: [], timers: systemTimers, random });
    return identity.node;
  };
  const ends = await Promise.allSettled(Array.from({ length: ATTEMPTS }, (_, index) => attempt(index)));

  const enrolled = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
  const refused = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason instanceof SelvedgeError ? end.reason.code : String(end.reason)] : []));
  t.equal(enrolled.length, USES);
  t.strictSame(new Set(refused), new Set(['token_exhausted']));
  t.strictSame((await tower.nodes()).map(({ id }) => id).sort(), enrolled.sort());
  t.match(
    (await tower.tokens()).find(({ id }) => id === token.id),
    { uses: USES },
  );
  t.ok(sockets.length >= ATTEMPTS, 'each came over a connection of its own');
});
