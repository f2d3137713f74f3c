package storage

// Place says where an [Addition] goes.
type Place string

const (
	PlaceAdd     Place = "add"     // beside the others: only its own edges hold it up
	PlacePrepend Place = "prepend" // behind the member that adds it, before what needs that one
	PlaceAppend  Place = "append"  // behind the last member of a chain
)

// Addition is what a running member adds to its flow, or to one that its flow is
// nested in (Q5.28, Q6.8). It is written in the transaction that completes the
// member, and forgotten with any other outcome. To a flow that is being stopped,
// members are added as cancelled ones, which a resumed flow takes back; adding to
// one that is over is [ErrFlowOver], and nothing of the call is written.
//
// With PlacePrepend and PlaceAppend the executions of the flow itself make a line
// in their order, and the store makes the edges. A unique key that another live row
// holds leaves the execution out, unless it stands for a nested flow, which has none.
type Addition struct {
	Flow       ID
	Place      Place
	Flows      []Flow // nested ones, outermost first
	Executions []Execution
	Edges      []Edge // between Executions, or from one of them to a pending member
}
