/**
 * Spec 15: a heartbeat timeout fails the channel. The path between two nodes passes nothing any more, and breaks nothing off: only heartbeats can tell. The session is
 * given up first; the channel waits for another until its carrier time is over.
 */
import t from 'tap';
import { limits } from '../../src/base/limits.ts';
import { LeapingTimers } from '../fixtures/leaping-timers.ts';
import { alpha, answered, beta, dial, isEstablished, overEach, type ScenarioHost, startHost } from './hosts.ts';
import { wayOf } from './ways.ts';

t.setTimeout(120_000);

/** Two ends give a session up at different moments. */
const MARGIN_MS = 10_000;

const lostSilently = ({ logs }: ScenarioHost): boolean => logs.some(({ message, facts }) => message === 'session lost' && facts.code === 'heartbeat_timeout');
const hasFailed = ({ states }: ScenarioHost): boolean => states.includes('failed');

overEach(
  t,
  'a channel of which no heartbeat comes back any more fails at both ends with heartbeat_timeout, once its time is over',
  async (t, transport, authority) => {
    const timers = new LeapingTimers();
    const a = await startHost(t, { self: alpha, authority, transport, timers });
    const b = await startHost(t, { self: beta, authority, transport, timers });
    const middle = await wayOf(transport).through(t, b.endpoint);
    dial(a, middle, beta);
    await Promise.all([a, b].map((end) => end.until(isEstablished)));
    const flow = a.host.mesh.open(beta.node, 'input', 'messages', 'echo');
    t.ok(await answered(flow));

    middle.silence();
    // A heartbeat is due at both ends now; their answers are waited for in real time.
    await timers.leap(limits.heartbeat_ms_active * (1 + limits.heartbeat_jitter_part));
    await Promise.all([a, b].map((end) => end.until(() => lostSilently(end))));
    await timers.leap(limits.carrier_ms_max - MARGIN_MS);
    t.match(a.host.mesh.status(), [{ state: 'established', suspect: true, transport: null }], 'before, it lives, without a session');
    t.notOk(hasFailed(a) || hasFailed(b));

    await timers.leap(MARGIN_MS);
    t.match(await flow.closed, { code: 'flow_lost', message: /heartbeat_timeout/ });
    await Promise.all([a, b].map((end) => end.until(() => hasFailed(end))));
    t.ok(b.logs.some(({ message, facts }) => message === 'channel ended' && facts.code === 'heartbeat_timeout'));
    t.same(b.host.mesh.status(), []);
  },
);
