# The results of a run of the benchmarks, as text files in a directory:
#
#	about.tsv		key, value: what was measured, where, with which settings
#	values.tsv		workload, variant, system, figure, round, value
#	series.tsv		workload, system, second, value
#
# bench/report reads nothing else.

package Results;

use strict;
use warnings;

sub new
{
	my ($class, $dir) = @_;
	return bless { dir => $dir, values => [], about => [], series => [] }, $class;
}

sub about
{
	my ($self, $key, $value) = @_;
	@{ $self->{about} } = grep { $_->[0] ne $key } @{ $self->{about} };
	push @{ $self->{about} }, [ $key, $value ];
	printf "%-12s %s\n", $key, $value;
	return $self->save;
}

# Continue stored results: what they have of these workloads is measured again.
sub replace
{
	my ($self, @workloads) = @_;
	my %again = map { $_ => 1 } @workloads;

	return unless -e "$self->{dir}/values.tsv";
	my $stored = ref($self)->load($self->{dir});
	foreach my $name (qw(values series))
	{
		$self->{$name} = [ grep { !$again{ $_->[0] } } @{ $stored->{$name} } ];
	}

	# of which commit the others are
	my %kept = map { $_->[0] => 1 } @{ $self->{values} };
	foreach my $pair (sort { length $b->[0] <=> length $a->[0] } @{ $stored->{about} })
	{
		my ($key, $value) = @$pair;
		next unless $key =~ /^commit/;
		my @of = $key =~ /^commit of (.*)/ ? grep { $kept{$_} } split /, /, $1 : sort keys %kept;
		push @{ $self->{about} }, [ 'commit of ' . join(', ', @of), $value ] if @of;
		delete @kept{@of};
	}

	# and which versions they are of, unless this run has them, too
	foreach my $system (qw(pgmq pgq pgque pgboss graphile node))
	{
		push @{ $self->{about} }, grep { $_->[0] eq $system } @{ $stored->{about} };
	}
	return;
}

# Note one figure of one round, and show it.
sub note
{
	my ($self, $workload, $variant, $system, $figure, $round, $value) = @_;
	$value = sprintf('%.6g', $value);
	push @{ $self->{values} }, [ $workload, $variant, $system, $figure, $round, $value ];
	printf "%-10s %-22s %-9s %-24s %3d %12s\n", $workload, $variant, $system, $figure, $round,
	  $value;
	return $self->save;
}

sub series
{
	my ($self, $workload, $system, $values) = @_;
	my $second = 0;
	push @{ $self->{series} }, [ $workload, $system, ++$second, $_ ] foreach @$values;
	return $self->save;
}

# Written each time, so that a run that is broken off leaves what it has.
sub save
{
	my ($self) = @_;

	return unless defined $self->{dir};
	mkdir $self->{dir};
	foreach my $name (qw(about values series))
	{
		open my $file, '>', "$self->{dir}/$name.tsv" or die "$self->{dir}/$name.tsv: $!\n";
		print $file join("\t", @$_), "\n" foreach @{ $self->{$name} };
		close $file;
	}
	return;
}

sub load
{
	my ($class, $dir) = @_;
	my $self = $class->new($dir);

	foreach my $name (qw(about values series))
	{
		open my $file, '<', "$dir/$name.tsv" or die "$dir/$name.tsv: $!\n";
		while (my $line = <$file>)
		{
			chomp $line;
			push @{ $self->{$name} }, [ split /\t/, $line, -1 ];
		}
		close $file;
	}
	return $self;
}

# The values of all rounds of one figure, sorted.
sub values_of
{
	my ($self, $workload, $variant, $system, $figure) = @_;
	return sort { $a <=> $b } map { $_->[5] }
	  grep { $_->[0] eq $workload && $_->[1] eq $variant && $_->[2] eq $system && $_->[3] eq $figure }
	  @{ $self->{values} };
}

sub median
{
	my (@v) = sort { $a <=> $b } @_;
	return @v % 2 ? $v[ $#v / 2 ] : ($v[ @v / 2 - 1 ] + $v[ @v / 2 ]) / 2;
}

1;
