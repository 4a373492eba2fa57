/** The seam through which somebody above watches the channel table: told of what happens, asked for nothing. */
import type { SelvedgeError } from '../base/errors.ts';
import type { HelloMode } from '../channel/hello.ts';
import type { ChannelState } from '../channel/states.ts';
import type { TransportName } from '../transport/session.ts';
import type { PeerChannel } from './peer-channel.ts';

export interface ChannelMove {
  readonly before: ChannelState;
  readonly now: ChannelState;
  /** Why, where it ended. */
  readonly error: SelvedgeError | null;
}

export interface ChannelObserver {
  /** Of each channel at each change of its state; the first is out of `idle`, the last into `closed` or `failed`. */
  moved(channel: PeerChannel, move: ChannelMove): void;
  /** Another session carries the channel from now on. */
  carried(channel: PeerChannel, transport: TransportName, mode: HelloMode): void;
}
