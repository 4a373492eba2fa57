/** Operators, sessions and who is being answered now, as one part of the tower. */
import { LiveCallers } from './live-callers.ts';
import { Operators, type OperatorsParts } from './operators.ts';
import { Sessions } from './sessions.ts';

export class TowerAccess {
  readonly live = new LiveCallers();
  readonly operators: Operators;
  readonly sessions: Sessions;

  constructor(parts: Omit<OperatorsParts, 'live'>) {
    const { live } = this;
    this.operators = new Operators({ ...parts, live });
    this.sessions = new Sessions({ ...parts, live });
  }
}
