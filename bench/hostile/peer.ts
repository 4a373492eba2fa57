/** The hostile peers: one that takes nothing and then stands still, one that says as much as the path takes, and some that lie, are thrown out and come back at once. */
import { writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { encodeControl, encodeDatagramHead, encodeDataHead } from '../../src/channel/frame-encoder.ts';
import { limits } from '../../src/base/limits.ts';
import { helloOf } from '../../src/lab/hello-of.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { type Hostile, speakRaw } from '../../test/scenario/hostile-peer.ts';
import { ACCEPTOR, CLUSTER } from '../subject.ts';
import { ADDRESS, type Kind, PORT, type Setting } from './setting.ts';

type Dial = () => Promise<Hostile>;

const LIARS = 4;
const FLOWS = 64;
const PIECE_BYTES = 60 * 1024;
const DATAGRAM_BYTES = 1_000;
const one = Uint8Array.of(1);

export async function beHostile({ kind, transport, credentials, node }: Setting): Promise<void> {
  giveWay();
  const dialer = transport === 'quic' ? new QuicTransport() : new TcpTransport();
  const hello = helloOf({ cluster: CLUSTER, node });
  await deeds[kind](async () => speakRaw(await dialer.dial({ host: ADDRESS, port: PORT }, credentials, new AbortController().signal), hello), node);
}

/** Elsewhere it would have a machine of its own: what it costs the others shall be its octets, not the processors that all of them share here. */
function giveWay(): void {
  setPriority(constants.priority.PRIORITY_LOW);
  try {
    writeFileSync('/proc/self/autogroup', String(constants.priority.PRIORITY_LOW));
  } catch {
    // A kernel without such groups goes by the priority alone.
  }
}

const open = (flow: number, service = 'echo') => encodeControl({ type: 'open', flow, class: 'clipboard', kind: 'stream', service });

const deeds: Record<Kind, (dial: Dial, node: string) => Promise<void>> = {
  /** As much as the host takes on many flows, to be sent back; then the process stops, with all of it under way. */
  async stalled(dial) {
    const h = await dial();
    const piece = new Uint8Array(PIECE_BYTES);
    for (let flow = 1; flow < 2 * FLOWS; flow += 2) {
      h.say(flow, open(flow));
      for (let offset = 0; offset + piece.length <= limits.flow_window_bytes_initial; offset += piece.length) {
        h.say(flow, encodeDataHead(flow, offset, piece.length, false, null), piece);
        await h.ready();
      }
    }
    console.log('on');
    setTimeout(() => process.kill(process.pid, 'SIGSTOP'), 50);
    await h.closed;
  },

  /** Heartbeats, packets, and openings that are refused: nothing of it breaks a rule, so that it is never thrown out. */
  async flooding(dial, node) {
    const h = await dial();
    h.say(1, encodeControl({ type: 'open', flow: 1, class: 'vpn_packet', kind: 'datagrams', service: 'echo' }));
    console.log('on');
    const packet = new Uint8Array(DATAGRAM_BYTES);
    let flow = 3;
    for (let sequence = 1; !h.session.isClosed; sequence++) {
      h.say(0, heartbeat(h, node, sequence), open(flow, 'nobody'));
      for (let count = 0; count < 10; count++) h.say(1, encodeDatagramHead(1, packet.length), packet);
      flow += 2;
      await h.ready();
      if (sequence % 100 === 0) await new Promise(setImmediate);
    }
    throw new Error(`thrown out: ${(await h.closed).message}`);
  },

  /** A wrong credit, a wrong offset, a heartbeat of another channel, one after the other, each over a session of its own. */
  async lying(dial, node) {
    const lies: readonly ((h: Hostile) => void)[] = [
      (h) => h.say(1, open(1), encodeControl({ type: 'ack', flow: 1, consumed: 9, limit: 99 })),
      (h) => h.say(1, open(1), encodeDataHead(1, 2 * limits.flow_window_bytes_initial, 1, false, null), one),
      (h) => h.say(0, heartbeat({ accept: null }, node, 1)),
    ];
    const lieOn = async (turn: number): Promise<void> => {
      for (let count = turn; ; count++) {
        const h = await dial();
        lies[count % lies.length]?.(h);
        const { code } = await h.closed;
        if (count === 0) console.log('on');
        if (!['flow_violation', 'frame_invalid', 'replaced', 'peer_busy'].includes(code)) throw new Error(`ended with ${code}`);
      }
    };
    await Promise.all(Array.from({ length: LIARS }, (_, turn) => lieOn(turn)));
  },
};

function heartbeat({ accept }: Pick<Hostile, 'accept'>, node: string, sequence: number): Uint8Array {
  const ends = { channel: accept?.channel ?? new Uint8Array(16), from: node, to: ACCEPTOR };
  const path = { stamp_us: 1, latency_us: 1, jitter_us: 1, loss_ppm: 0 };
  return encodeControl({ type: 'heartbeat', ...ends, sequence, ...path, health: 0, draining: false, configVersion: 0, routeEpoch: 0 });
}
