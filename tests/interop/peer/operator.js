// What a namespace of a server and an emitter have in common: aim, then do.

/** Narrows `start` (a namespace or an emitter) to the rooms and flags of a request. */
export function aim(start, { rooms = [], except = [], flags = {} }) {
  let operator = start;
  if (rooms.length > 0) operator = operator.to(rooms);
  if (except.length > 0) operator = operator.except(except);
  if (flags.compress !== undefined) operator = operator.compress(flags.compress);
  if (flags.timeout !== undefined) operator = operator.timeout(flags.timeout);
  if (flags.volatile) operator = operator.volatile;
  if (flags.local) operator = operator.local;
  return operator;
}
