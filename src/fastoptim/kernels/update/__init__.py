"""One update: the stations that the keys of a dict pass.

params, grads
│
│    engine.begin           Refuse to begin in the middle of another call
│    call.begin             Forget all, and set the stages of this call
├─╮  check                  Check all but the gradients' numbers; the call must have begun
│ │  intake.read            Check every key and write its span into the call's table
│ ╎  prelude.check          Refuse gradients of which it cannot be computed
│ │  coefficients.fill      Let each span point at its coefficients; refuse what its dtype cannot
│ │                         hold
│ │  memory.check           Refuse two written arrays on one memory; copy gradients that lie on
│ │                         written memory
│ ╎  habits.look            Warn, once each, of keys that stand for several arrays, and of one call
│ ╎                         for each key
│ ╎  memory.forget          Let the next check look at everything
│ │  table.number_blocks    Number the blocks of all spans, and sum up the work
│ ╎  survey.prepare         List the gradients, each in C order; make room for copies of those that
│ ╎                         lie otherwise
├─╯
│    store.prepare          Make the state, the averages and the records that a call's keys do not
│                           have yet
╎    codes.prepare          Say of each span how its state is kept; ask for the memory of what goes
╎                           apart
╎    codes.decode           Decode what goes apart
╎    means.prepare          Make room for stages of their own, if a key's mean has another count
╎                           than its group's
╎    prelude.prepare        Ask for all memory; the keys have been checked and have their state
╎    detours.gather         Copy what the span cannot reach
╎    tensors.prepare        List the keys that are concerned, and make room for all that will be
╎                           found
│    learning.begin         Return the count for an update of `work` elements, which starts now
╎    source.before_reading  Make the gradients: the arrays have been checked, their numbers not yet
├─╮  may_go_on              Look at the gradients' numbers; return whether they may be used
│ ╎  detours.bring_in       Make the gradient that the stations look at
│ ╎  survey.passes          Return whether the update may go on; set the factor that clips the norm
├─╯
├──→ return False
╎    tensors.look           Find what the rules and the stages before them have to know
╎    means.set_averagers    Let such a key's mean count the key's own updates
╎    prelude.compute        Read parameters, gradients and state, and write memory of its own alone
╎    numbers.settle         Update the parameters that are numbers, put them back, and take them
╎                           off the table
╎    products.take_off      Take the keys whose gradient is made in tiles off the table
│
╪═   before this line no array is written; after it nothing is refused
│
╎    driver.run             Update every span of a table, on `team` threads
╎    ahead.run_ahead        Update every span of a table, and read ahead
│    tensors.run_in_parts   Update all keys, a window of them after the other
╎    products.run_products  Make the tiles of all products one after the other, and send each
╎                           through its pipeline
│    learning.end           Note that the update has been made
│    store.commit           Put what was prepared in its place and count the update
╎    prelude.commit         Put what was computed in its place, in the same step as the arrays
╎    source.applied         Note, in the same step as the arrays, that they have been written
╎    detours.take_back      Copy back what `gather` took, and what is zero in a copy only
╎    codes.encode           Encode it again, after the update
╵
in any case, at the end
╷
╎    tensors.end            Let go of the caller's arrays
├─╮  end                    Let go of the caller's arrays
│ ╎  detours.let_go         Forget the caller's arrays
│ │  call.end               Let go of the caller's arrays
├─╯
╵
in any case, at the end
╷
╵

│ in every update  ╎ only if an option, a detour, a number or a soft batch needs it

Passed from station to station:
     Plan, pipeline.pyx     What an update needs of an optimizer's hyperparameters
     Record, store.pyx      What is kept for one key
     Call, call.pyx         The notes of one call, one per engine: emptied at its begin and its end
     Detour, detours.pyx    The way of one key whose arrays cannot be used where they lie
     Source, engine.pyx     Where the gradients of an update come from, if it has to know of the
                            update's stations
     Prelude, prelude.pyx   What a rule computes of whole tensors before its loop can run

Beside the way:
     adder.pyx              The sums of a soft batch: a call is checked as an update is, and then
                            its gradients are added
     addition.pyx           What one call brings to a soft batch: for each span the sum that its
                            gradient is added to
     averaged.pyx           The weights' averages in the place of the weights, for as long as a
                            `with` lasts
     batch.pyx              What waits after some call of a soft batch
     checks/                Input checks and their messages
     compressed.pyx         Sparse gradients as SciPy makes them, CSR and CSC, become places in the
                            parameter in one pass
     factored.pyx           Adafactor's step: its length, and second moments that are two vectors
     folder.pyx             The files that an optimizer's state is kept in, if it has a folder for
                            it
     grid.pyx               How a parameter or a gradient that does not lie as the state does is
                            cut into tiles
     newton_schulz.pyx      What Muon steps along: each matrix's momentum, orthogonalised
     row_numbers.pyx        Which rows of a table a gradient touches, and where in the gradient
                            each of them is
"""
