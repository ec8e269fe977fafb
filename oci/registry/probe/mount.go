package probe

func mountProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-11", Asks: asks, Writes: true} }
	return []probe{
		{Row: row("mount", "POST with mount and from, of a blob that is there"), needs: "put", try: func(r *run) *result {
			a := r.mount(r.blob.Digest.String(), "&from="+r.repo)
			res := judge(a, Violation, 201, 202)
			res.works = a.is(201)
			switch {
			case a.is(202):
				res.note("a session was opened in its place").pushes(true, "uploads in that session")
			case a.is(201):
				checkDigest(res, a, r.blob.Digest.String())
			default:
				res.pushes(true, "uploads in a new session")
			}
			return res
		}},
		{Row: row("mount-anywhere", "POST with mount alone, of a blob that is there"), needs: "put", try: func(r *run) *result {
			return judge(r.mount(r.blob.Digest.String(), ""), Note, 201, 202).pushes(true, "names the repository")
		}},
		{Row: row("mount-unknown", "POST with mount and from, of a blob that no one has"), needs: "put", try: func(r *run) *result {
			d := digestOf(noise(size))
			a := r.mount(d, "&from="+r.repo)
			res := judge(a, Violation, 202)
			if a.is(201) {
				res.say("it claims to have what no one has").pushes(true, "looks whether the blob is there")
			}
			return res
		}},
	}
}

func (r *run) mount(d, from string) answer {
	_, a := r.start("end-11", "?mount="+d+from)
	return a
}
